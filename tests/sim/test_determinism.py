"""The same scenario and seed give the same bytes; a policy changes what happens to the requests, never the requests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engines import table
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.serving import ROUTERS
from sim.result import Result
from sim.run import run
from sim.scenario import ClusterSection, ModelSection, Scenario, ServingSection, WorkloadSection
from sim.section import PolicyChoice
from sim.serving.results import expand_steps

ROOT = Path(__file__).parents[2]
SCHEDULERS = [
    ("chunked_prefill", {}),
    ("chunked_prefill", {"policy": "sjf"}),
    ("prefill_first", {"preemption_mode": "swap"}),
    ("orca", {"reservation": "pow2"}),
    ("static", {"reservation": "oracle"}),
    ("sarathi", {"reservation": "oracle", "chunk_size": 128}),
]
REPLICAS = 3

SCENARIO = """
name = "determinism"
seed = {seed}
[model]
config = "llama-3-8b"
[cluster]
node = "dgx-h100"
[serving]
replicas = 3
max_num_seqs = 16
num_gpu_blocks_override = 400
router = {{ name = "random" }}
[workload]
num_requests = 300
[workload.generator]
name = "synthetic"
arrivals = {{ name = "gamma", request_rate = 12.0, burstiness = 0.5 }}
prompt_tokens = {{ name = "lognormal", p50 = 300, p99 = 2000 }}
output_tokens = {{ name = "lognormal", p50 = 100, p99 = 600 }}
"""
RUN = """
import sys
from pathlib import Path
from sim import load_scenario, run
scenario, out, *routers = sys.argv[1:]
for router in routers:
    run(load_scenario(Path(scenario), (f"serving.router.name={router}",))).write(Path(out, router))
"""


def run_elsewhere(folder: Path, seed: int, hash_seed: int, *routers: str) -> dict[str, dict[str, bytes]]:
    """Run the scenario in another process; the bytes of every file it writes, by router."""
    scenario, out = folder / f"{seed}-{hash_seed}.toml", folder / f"{seed}-{hash_seed}"
    scenario.write_text(SCENARIO.format(seed=seed))
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", RUN, str(scenario), str(out), *routers]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=60)
    return {router: {path.name: path.read_bytes() for path in (out / router).iterdir()} for router in routers}


def test_the_same_seed_gives_the_same_bytes_in_any_process_and_another_seed_others(tmp_path):
    first = run_elsewhere(tmp_path, 7, 1, "random", "least_kv")
    again = run_elsewhere(tmp_path, 7, 2, "least_kv", "random")
    other = run_elsewhere(tmp_path, 8, 1, "random", "least_kv")
    assert first == again
    for router, files in first.items():
        assert {"requests.parquet", "steps.parquet", "summary.json", "scenario.toml"} <= files.keys()
        for name in ("requests.parquet", "steps.parquet", "summary.json"):
            assert other[router][name] != files[name]


# -- common random numbers ---------------------------------------------------------------------------------------------


def scenario(
    *, scheduler="chunked_prefill", router="round_robin", replicas=REPLICAS, seed=3, stages=1, blocks=300, **keys
) -> Scenario:
    lengths = {"name": "lognormal", "p50": 200, "p99": 1500}
    generator = {
        "name": "synthetic",
        "arrivals": {"name": "poisson", "request_rate": 30.0},
        "prompt_tokens": lengths,
        "output_tokens": lengths,
    }
    return Scenario(
        seed=seed,
        model=ModelSection(config="mistral-7b"),
        cluster=ClusterSection(node="dgx-h100", nodes=2),
        serving=ServingSection(
            replicas=replicas,
            pipeline_parallel_size=stages,
            max_num_seqs=16,
            max_num_batched_tokens=256,
            max_model_len=4000,
            num_gpu_blocks_override=blocks,
            scheduler=PolicyChoice(name=scheduler, **keys),
            router=PolicyChoice(name=router),
        ),
        workload=WorkloadSection(generator=generator, num_requests=150),
    )


def offered(result: Result) -> np.ndarray:
    """(requests, 4): what the run was given."""
    return result.requests[["request_id", "arrival_s", "prompt_tokens", "output_tokens"]].to_numpy()


def test_no_policy_changes_the_arrivals_or_the_lengths():
    first = run(scenario())
    others = [scenario(router=router) for router in ROUTERS]
    others += [scenario(scheduler=name, **keys) for name, keys in SCHEDULERS]
    others += [scenario(replicas=1), scenario(stages=2), scenario(blocks=1000)]
    finished = set()
    for other in map(run, others):
        assert np.array_equal(offered(other), offered(first))
        finished.add(other.summary["e2e_s"]["mean"])
    assert len(finished) > 10  # while the policies do differ
    assert not np.array_equal(offered(run(scenario(seed=4))), offered(first))


def test_a_random_router_draws_from_its_own_stream():
    one, two = run(scenario(router="random")), run(scenario(router="random", scheduler="prefill_first"))
    assert one.requests["replica"].tolist() == two.requests["replica"].tolist()
    assert np.bincount(one.requests["replica"]).min() > 30
    other = run(scenario(router="random", seed=4))
    assert other.requests["replica"].tolist() != one.requests["replica"].tolist()


# -- routers -----------------------------------------------------------------------------------------------------------

TIMES = ["queue_s", "ttft_s", "max_tbt_s", "e2e_s"]


@st.composite
def workloads(draw):
    """Up to 24 requests of a few sessions, in bursts and alone; some too long for an engine of 20 blocks."""
    count = draw(st.integers(1, 24))
    gaps = draw(st.lists(st.sampled_from([*[0.0, 0.003, 0.011] * 2, 0.17, 2.3]), min_size=count, max_size=count))
    prompts = draw(st.lists(st.integers(1, 300), min_size=count, max_size=count))
    answers = draw(st.lists(st.integers(1, 120), min_size=count, max_size=count))
    sessions = draw(st.lists(st.integers(-1, 5), min_size=count, max_size=count))
    return table(np.cumsum(gaps), prompts, answers, session=sessions)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize(("name", "keys"), SCHEDULERS)
@pytest.mark.parametrize("router", list(ROUTERS))
@given(requests=workloads(), blocks=st.sampled_from([20, 30, 2000]))
@settings(max_examples=6, deadline=None)
def test_every_router_gives_the_times_of_single_steps(router, name, keys, stages, requests, blocks):
    chosen = scenario(scheduler=name, router=router, stages=stages, blocks=blocks, **keys)
    fast, slow = run(chosen, requests=requests), run(chosen, requests=requests, exact=True)
    assert fast.request_columns["replica"].tolist() == slow.request_columns["replica"].tolist()
    a, b = (np.array([result.request_columns[name] for name in TIMES]) for result in (fast, slow))
    assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.nanmax(np.abs(a - b) / np.maximum(np.abs(b), 1.0), initial=0.0) <= 1e-9
    assert fast.summary["steps"] == slow.summary["steps"]
    assert fast.summary["preemptions"] == slow.summary["preemptions"]
    for key in ("duration_s", "decode_stall_fraction", "mfu", "mbu", "pipeline_bubble_fraction"):
        if slow.summary[key] is not None:
            assert fast.summary[key] == pytest.approx(slow.summary[key], rel=1e-9, abs=1e-9)
    if slow.summary["completed"]:
        assert fast.summary["bound_by"] == pytest.approx(slow.summary["bound_by"], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("scheduler", ["chunked_prefill", "prefill_first", "static"])
@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "least_kv"])
def test_arrivals_at_the_very_end_of_a_step_see_the_same_engines_in_single_steps(router, scheduler, stages):
    chosen = scenario(scheduler=scheduler, router=router, stages=stages, blocks=2000)
    rng = np.random.default_rng(5)
    arrival_s = [0.0, 0.001, 0.4]
    for _ in range(12):  # each run shows where its steps end, and the next request comes with one of the ends
        count = len(arrival_s)
        requests = table(arrival_s, 50 + 37 * np.arange(count) % 300, 20 + 53 * np.arange(count) % 200)
        fast, slow = run(chosen, requests=requests), run(chosen, requests=requests, exact=True)
        assert fast.request_columns["replica"].tolist() == slow.request_columns["replica"].tolist()
        a, b = (np.array([result.request_columns[name] for name in TIMES]) for result in (fast, slow))
        assert np.nanmax(np.abs(a - b) / np.maximum(np.abs(b), 1.0)) <= 1e-9
        assert np.nanmin(a) >= 0.0
        steps = expand_steps(fast.steps)
        ends_s = (steps["start_s"] + steps["duration_s"]).to_numpy()
        arrival_s.append(rng.choice(ends_s[ends_s > arrival_s[-1] + 1e-6][:40]))


@pytest.mark.parametrize("router", list(ROUTERS))
@given(requests=workloads())
@settings(max_examples=15, deadline=None)
def test_every_router_serves_every_token_once(router, requests):
    result = run(scenario(router=router, blocks=2000), requests=requests)
    assert result.summary["completed"] == len(requests)
    frame, steps = result.requests, result.steps
    assert set(frame["replica"]) <= set(range(REPLICAS))
    for replica in range(REPLICAS):
        mine, runs = frame[frame["replica"] == replica], steps[steps["replica"] == replica]
        assert (runs["prefill_tokens"] * runs["iterations"]).sum() == mine["prompt_tokens"].sum()
        assert (runs["decode_seqs"] * runs["iterations"]).sum() == (mine["output_tokens"] - 1).sum()


def test_rejected_requests_are_nobodys_and_the_rest_are_served():
    requests = table([0.0, 0.1, 0.2, 0.3], [100, 5000, 100, 100], [10, 10, 5000, 10])
    for router in ROUTERS:
        result = run(scenario(router=router), requests=requests)
        assert result.summary["rejected"] == 2
        assert (result.requests["replica"] == -1).tolist() == [False, True, True, False]


@given(requests=workloads())
@settings(max_examples=30, deadline=None)
def test_a_session_stays_with_its_replica(requests):
    frame = run(scenario(router="session_affinity", blocks=2000), requests=requests).requests
    sessions = np.asarray(requests.session)
    for session in set(sessions[sessions >= 0]):
        assert len(set(frame["replica"][sessions == session])) == 1
    alone = np.flatnonzero(sessions < 0)  # requests without a session go in turn
    assert (frame["replica"][alone] == alone % REPLICAS).all()


def test_many_sessions_spread_over_the_replicas():
    count = 300
    requests = table(np.arange(count) * 0.05, np.full(count, 10), np.full(count, 2), session=np.arange(count))
    frame = run(scenario(router="session_affinity"), requests=requests).requests
    assert np.bincount(frame["replica"], minlength=REPLICAS).min() > 80


def test_round_robin_goes_in_turn_and_least_outstanding_avoids_the_busy():
    requests = table([0.0, 0.5, 1.0, 1.5], [100, 10, 10, 10], [2000, 2, 2, 2])  # the first outlasts the others
    turn = run(scenario(router="round_robin", blocks=2000), requests=requests).requests
    assert turn["replica"].tolist() == [0, 1, 2, 0]
    for router in ("least_outstanding", "least_kv"):
        least = run(scenario(router=router, blocks=2000), requests=requests).requests
        assert least["replica"].tolist() == [0, 1, 1, 1]


def test_least_kv_goes_by_memory_where_least_outstanding_goes_by_count():
    # replica 0 gets one long prompt, replica 1 two short ones, all still at work when the fourth arrives
    requests = table([0.0, 0.2, 0.4, 0.6], [900, 20, 20, 20], [900, 900, 900, 900])
    two = {"replicas": 2, "blocks": 2000}
    by_count = run(scenario(router="least_outstanding", **two), requests=requests).requests
    by_memory = run(scenario(router="least_kv", **two), requests=requests).requests
    assert by_count["replica"].tolist() == [0, 1, 0, 1]
    assert by_memory["replica"].tolist() == [0, 1, 1, 1]
