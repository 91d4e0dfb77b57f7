"""Energy of serving runs: conserved over replicas, idle GPUs and steps, from arithmetic that is counted in full."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from engines import table
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.power import power_model
from sim.result import Result
from sim.run import run
from sim.scenario import ClusterSection, ModelSection, Scenario, ServingSection, WorkloadSection
from sim.serving.attribution import HOST
from sim.serving.energy import SAMPLING_S_PER_SEQUENCE, energy_summary, energy_use, run_watts, stage_flop, work
from sim.serving.record import RUN_COLUMNS
from workloads.models.catalog import model as load_model
from workloads.models.counts import active_matmul_parameters, visible_pairs
from workloads.models.weights import head_weights

H100 = catalog.gpu("h100-sxm")
MODEL = power_model(H100)


def served(requests, model: str = "llama-3-8b", *, nodes: int = 1, exact: bool = False, **serving) -> Result:
    scenario = Scenario(
        model=ModelSection(config=model),
        cluster=ClusterSection(node="dgx-h100", nodes=nodes),
        serving=ServingSection(**serving),
        workload=WorkloadSection(trace="none"),
    )
    return run(scenario, requests=requests, exact=exact)


@st.composite
def workloads(draw):
    """Up to 12 requests, at once and apart."""
    count = draw(st.integers(1, 12))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.02, 0.7]), min_size=count, max_size=count))
    prompts = draw(st.lists(st.integers(1, 5000), min_size=count, max_size=count))
    answers = draw(st.lists(st.integers(1, 80), min_size=count, max_size=count))
    return table(np.cumsum(gaps), prompts, answers)


PLANS = st.sampled_from(
    [{}, {"replicas": 2}, {"tensor_parallel_size": 2}, {"replicas": 2, "tensor_parallel_size": 4},
     {"pipeline_parallel_size": 2, "max_num_seqs": 8}]
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(workloads(), PLANS)
def test_energy_is_that_of_the_replicas_and_the_unused_and_mean_power_times_time(requests, plan) -> None:
    result = served(requests, **plan)
    summary, deployment = result.summary, result.run.deployment
    runs, replicas = result.run.runs.columns(), len(result.run.replicas)
    duration, gpus = summary["duration_s"], summary["gpus"]
    used = replicas * deployment.gpus_per_replica
    # by hand: each GPU of each stage, run by run, and awake in between
    ranks = deployment.gpus_per_replica // len(result.attributions)
    expected = MODEL.idle_w * (gpus - used) * duration
    for index, attribution in enumerate(result.attributions):
        watts = run_watts(runs, deployment, attribution, index)
        assert np.all((watts >= MODEL.awake_w - 1e-9) & (watts <= H100.tdp_w))
        expected += ranks * float(np.sum((watts - MODEL.awake_w) * attribution.busy_s))
        expected += ranks * MODEL.awake_w * duration * replicas
    assert summary["energy_j"] == pytest.approx(expected, rel=1e-9)
    assert summary["energy_j"] == pytest.approx(summary["mean_power_w_per_gpu"] * duration * gpus, rel=1e-12)
    assert summary["energy_j_per_output_token"] * summary["output_tokens"] == pytest.approx(summary["energy_j"])
    assert MODEL.awake_w - 1e-6 <= summary["mean_power_w_per_gpu_used"] <= H100.tdp_w + 1e-6
    use = energy_use(deployment, runs, result.attributions, replicas, 0.0, duration)
    assert len(use.replica_j) == replicas
    assert summary["mean_power_w_per_gpu_used"] * used * duration + use.unused_j == pytest.approx(summary["energy_j"])


@settings(max_examples=10, deadline=None)
@given(workloads())
def test_one_event_a_step_gives_the_same_energy(requests) -> None:
    """Runs are averaged before the power limit cuts them, so that the two may differ by a little at the limit."""
    fast, exact = (served(requests, exact=exact).summary["energy_j"] for exact in (False, True))
    assert fast == pytest.approx(exact, rel=1e-3)


def test_unused_gpus_idle_and_unused_time_is_awake() -> None:
    requests = table([0.0], [1000], [20])
    one, two = (served(requests, nodes=nodes).summary for nodes in (1, 2))
    assert two["energy_j"] - one["energy_j"] == pytest.approx(8 * MODEL.idle_w * one["duration_s"])
    apart = served(table([0.0, 100.0], [1000, 1000], [20, 20])).summary
    waiting = apart["duration_s"] - 2 * one["duration_s"]
    spent = apart["energy_j"] - 2 * one["energy_j"]
    assert spent == pytest.approx(waiting * (MODEL.awake_w + 7 * MODEL.idle_w), rel=1e-6)


@pytest.mark.parametrize("plan", [{}, {"tensor_parallel_size": 4}, {"pipeline_parallel_size": 2, "max_num_seqs": 2}])
@pytest.mark.parametrize("model", ["llama-3-8b", "mistral-7b", "qwen3-30b-a3b"])
@pytest.mark.parametrize(("prompt", "output"), [(6000, 60), (10, 3000)])
def test_arithmetic_of_all_gpus_is_the_models(model: str, plan: dict, prompt: int, output: int) -> None:
    """One request alone: every token once through the layers, its visible pairs, the head for each token that comes
    out.
    """
    result = served(table([0.0], [prompt], [output]), model, **plan)
    deployment, runs = result.run.deployment, result.run.runs.columns()
    ranks = deployment.gpus_per_replica // len(deployment.stages)
    flop = ranks * sum(float(stage_flop(runs, deployment, i).sum()) for i in range(len(deployment.stages)))
    architecture = load_model(model)
    tokens = prompt + output - 1.0
    expected = 2.0 * active_matmul_parameters(architecture) * tokens
    for group in architecture.groups:
        pairs = visible_pairs(tokens, 0.0, group.attention.window)
        expected += 4.0 * group.count * pairs * group.attention.heads * group.attention.head_dim
    head = head_weights(architecture, shares_embedding=False)
    head_flop = 2.0 * sum(weight.elements for weight in head if weight.multiplies)
    chunks = float(np.sum(runs["chunks"] * runs["iterations"]))  # each chunk's last row is sampled
    expected += head_flop * (output - 1 + chunks)
    repeated = 0.02 if "tensor_parallel_size" in plan else 0.0  # each rank has the router of its experts
    assert expected * 0.999 <= flop <= expected * (1.001 + repeated)


def test_a_bigger_batch_costs_fewer_joules_a_token() -> None:
    few, many = (
        served(table([0.0] * 64, [200] * 64, [100] * 64), max_num_seqs=seqs).summary["energy_j_per_output_token"]
        for seqs in (4, 64)
    )
    assert few > 3 * many


@pytest.mark.parametrize(("engine", "counted"), [("vllm-0.6", "all"), ("sarathi-serve", "bound")])
def test_overhead_a_sequence_is_sampling_up_to_what_sampling_takes(engine: str, counted: str) -> None:
    result = served(table([0.0] * 8, [100] * 8, [50] * 8), engine=engine)
    deployment, attribution = result.run.deployment, result.attributions[0]
    runs = result.run.runs.columns()
    kernels = attribution.busy_s - attribution.seconds[HOST]
    samples = (runs["chunks"] + runs["decode_seqs"] + runs["padding_rows"]) * runs["iterations"]
    sampling = work(runs, deployment, attribution, 0).busy_s - kernels
    per_sequence = deployment.stages[0].host_s_per_sequence
    expected = per_sequence if counted == "all" else SAMPLING_S_PER_SEQUENCE
    assert (per_sequence > SAMPLING_S_PER_SEQUENCE) == (counted == "bound")
    assert sampling == pytest.approx(expected * samples)


def test_nothing_finished_has_no_energy() -> None:
    runs = {name: np.zeros(0) for name in RUN_COLUMNS}
    found = energy_summary(SimpleNamespace(), runs, [], 1, 0.0, 0.0, 0)  # type: ignore[arg-type]
    assert set(found.values()) == {None}


def test_summary_grades_the_watts() -> None:
    summary = served(table([0.0], [100], [10])).summary
    assert summary["grades"]["power"] == "measured"
    assert math.isfinite(summary["energy_j_per_output_token"])
