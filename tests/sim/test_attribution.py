"""Where the time went: every second of an engine has a name."""

import numpy as np
import pytest
from engines import serve, stage_cost, table

from sim.run import run
from sim.scenario import ClusterSection, ModelSection, Scenario, ServingSection, WorkloadSection
from sim.section import PolicyChoice
from sim.serving.attribution import attribute
from workloads.request import RequestTable

SCHEDULERS = [
    ("chunked_prefill", {}),
    ("prefill_first", {"preemption_mode": "swap"}),
    ("orca", {"reservation": "oracle"}),
    ("static", {"reservation": "oracle"}),
    ("sarathi", {"reservation": "oracle", "chunk_size": 128}),
]


def mixed_requests(seed: int, count: int = 120) -> RequestTable:
    rng = np.random.default_rng(seed)
    gaps = rng.choice([0.0, 0.02, 0.3, 2.0], count)
    return table(np.cumsum(gaps), rng.integers(1, 900, count), rng.integers(1, 200, count))


@pytest.mark.parametrize(("name", "keys"), SCHEDULERS)
@pytest.mark.parametrize("window", [0, 100])
@pytest.mark.parametrize("floor_s", [0.0, 1.2e-2])
def test_every_second_of_an_engine_is_attributed(name, keys, window, floor_s):
    cost = stage_cost(window=window, floor_s=floor_s, pair_s=3e-8)
    served = serve(mixed_requests(5), name, cost=cost, blocks=150, max_num_seqs=16, max_num_batched_tokens=256, **keys)
    runs = served.columns
    steps = runs["iterations"]
    taken_s = runs["copy_s"] + steps * runs["first_s"] + 0.5 * steps * (steps - 1) * runs["slope_s"]
    split = attribute(runs, cost, first_stage=True)
    assert split.busy_s == pytest.approx(taken_s, rel=1e-9)
    assert split.seconds.min() >= -1e-12
    ends_s = runs["start_s"] + taken_s
    assert (runs["start_s"][1:] >= ends_s[:-1] - 1e-9).all()
    host_s = 1e-3 * steps.sum()
    assert split.seconds[3].sum() > host_s
    assert (split.seconds[2] == runs["copy_s"]).all()


@pytest.mark.parametrize(("name", "keys"), SCHEDULERS)
def test_shares_of_time_and_idle_time_make_the_whole(name, keys):
    scenario = Scenario(
        model=ModelSection(config="mistral-7b"),
        cluster=ClusterSection(node="dgx-a100-80gb"),
        serving=ServingSection(
            tensor_parallel_size=2,
            max_num_seqs=16,
            max_num_batched_tokens=256,
            num_gpu_blocks_override=150,
            scheduler=PolicyChoice(name=name, **keys),
        ),
        workload=WorkloadSection(trace="none"),
    )
    result = run(scenario, requests=mixed_requests(6))
    shares = dict(result.summary["bound_by"])
    del shares["kv_queue_fraction"]
    idle_s = result.summary["duration_s"] - result.steps["duration_s"].sum()  # counted apart from the shares
    assert shares["idle_fraction"] == pytest.approx(idle_s / result.summary["duration_s"], abs=1e-9)
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-12)
    assert all(0.0 < share < 1.0 for share in shares.values())
    seconds = result.attributions[0].busy_s
    assert seconds == pytest.approx(result.steps["duration_s"].to_numpy(), rel=1e-9)
