"""What a summary says about a run: utilisation, stalls, queueing for memory, grades, and from when time counts."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from engines import served, table
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.device import OPERATORS, Device
from hardware_models.framework import framework
from hardware_models.ops import Collective
from policies.serving import ROUTERS, SCHEDULERS
from policies.serving.routing import LeastKv
from sim.serving.deployment import _grades, fabric_links, tensor_fabric
from sim.serving.results import expand_steps
from workloads.models.catalog import model as load_model
from workloads.models.counts import forward_flop
from workloads.models.operators import Dtypes, LayerRange, attention_shapes, head_operators, token_operators

# -- utilisation -------------------------------------------------------------------------------------------------------

PEAK = catalog.gpu("h100-sxm").peak_flop_per_s["bf16"]


@st.composite
def workloads(draw):
    """Up to 20 requests, at once and apart."""
    count = draw(st.integers(1, 20))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.01, 0.3]), min_size=count, max_size=count))
    prompts = draw(st.lists(st.integers(1, 6000), min_size=count, max_size=count))
    answers = draw(st.lists(st.integers(1, 100), min_size=count, max_size=count))
    return table(np.cumsum(gaps), prompts, answers)


@pytest.mark.parametrize(
    ("model", "tp"),
    [("llama-3-8b", 1), ("mixtral-8x7b", 2), ("deepseek-v2-lite", 1), ("mistral-7b", 1), ("gemma-3-1b", 1)],
)
@pytest.mark.parametrize("pp", [1, 2, 3])
@given(requests=workloads())
@settings(max_examples=5, deadline=None)
def test_no_run_uses_more_bandwidth_than_there_is(model, tp, pp, requests):
    result = served(requests, model, tensor_parallel_size=tp, pipeline_parallel_size=pp, engine="ideal")
    assert 0.0 < result.summary["mbu"] <= 1.0
    exact = served(requests, model, tensor_parallel_size=tp, pipeline_parallel_size=pp, engine="ideal", exact=True)
    for name in ("mbu", "mfu"):
        assert exact.summary[name] == pytest.approx(result.summary[name], rel=1e-9)


def step_bytes(model: str, new: int, context: int) -> float:
    """Weights and KV that all operators of a step with one sequence read, on one device."""
    architecture, dtypes = load_model(model), Dtypes(weight="bf16", activation="bf16", kv_cache="bf16")
    layers = LayerRange(0, architecture.num_layers, architecture.num_layers)
    operators = token_operators(architecture, float(new), 1, layers, dtypes)
    operators += head_operators(architecture, 1.0, 1, dtypes)
    total = sum(o.count * o.op.stored_bytes for o in operators if not isinstance(o.op, Collective))
    for shape in attention_shapes(architecture, 1, layers):
        if new > 1:
            kv = min(context + new, shape.window + new - 1) if shape.window else context + new
            op = shape.prefill_op(pairs=1.0, queries=float(new), kv_tokens=float(kv), dtypes=dtypes)
        else:
            kv = min(context + new, shape.window or context + new)
            op = shape.decode_op(sequences=1.0, kv_tokens=float(kv), dtypes=dtypes)
        total += shape.layers * op.stored_bytes
    return float(total)


@pytest.mark.parametrize(("model", "prompt"), [("mixtral-8x7b", 100), ("gemma-3-1b", 700), ("llama-3-8b", 100)])
@pytest.mark.parametrize("pp", [1, 2])
def test_mbu_is_the_weights_and_kv_of_all_operators_over_bandwidth(model, prompt, pp):
    answer = 5
    requests = table([0.0], [prompt], [answer])
    summary = served(requests, model, pipeline_parallel_size=pp, gpu_memory_utilization=1.0, node=roomy(model)).summary
    moved = step_bytes(model, prompt, 0) + sum(step_bytes(model, 1, prompt + i) for i in range(answer - 1))
    bandwidth = catalog.gpu(catalog.node(roomy(model)).gpu).memory_bandwidth_bytes_per_s
    assert summary["mbu"] == pytest.approx(moved / (pp * bandwidth * summary["duration_s"]), rel=1e-9)


def roomy(model: str) -> str:
    """A server one GPU of which holds the model."""
    return "dgx-h200" if model == "mixtral-8x7b" else "dgx-h100"


def test_mfu_is_the_arithmetic_of_each_token_with_the_head_for_each_that_comes_out():
    prompt, answer = 10, 40
    result = served(table([0.0], [prompt], [answer]))
    architecture = result.run.deployment.architecture
    flop = forward_flop(architecture, float(prompt), 0.0)
    flop += sum(forward_flop(architecture, 1.0, float(prompt + i)) for i in range(answer - 1))
    assert result.summary["mfu"] == pytest.approx(flop / PEAK / result.summary["duration_s"], rel=1e-9)
    head = 2.0 * 4096 * 128_256 * (answer - 1)
    assert flop - head < 0.97 * flop  # so the head shows


# -- stalls ------------------------------------------------------------------------------------------------------------


def test_a_prompt_run_alone_stalls_the_one_that_waits_for_its_first_decode():
    # the second arrives while the first's prompt is computed; then both decode one token together
    result = served(table([0.0, 1e-3], [2000, 1500], [2, 2]), scheduler="prefill_first")
    prompts_and_decode = result.steps["duration_s"].tolist()
    assert result.steps["prefill_tokens"].tolist() == [2000, 1500, 0]
    _, second, decode = prompts_and_decode
    assert result.summary["decode_stall_fraction"] == pytest.approx(second / (second + 2 * decode), rel=1e-9)


@pytest.mark.parametrize("exact", [False, True])
def test_a_recomputed_sequence_stalls_until_the_step_that_gives_its_token(exact):
    requests = table([0.0, 0.1], [64, 64], [100, 100])
    result = served(requests, num_gpu_blocks_override=14, exact=exact)
    assert result.summary["preemptions"] > 0
    steps = expand_steps(result.steps)
    recomputed_s = steps["duration_s"][steps["prefill_tokens"] > 0].to_numpy()[2:]
    gaps_s = float((result.requests["e2e_s"] - result.requests["ttft_s"]).sum())
    own_s = float((steps["decode_seqs"] * steps["duration_s"]).sum() + recomputed_s.sum())
    assert result.summary["decode_stall_fraction"] == pytest.approx(1.0 - own_s / gaps_s, rel=1e-9)
    assert result.summary["decode_stall_fraction"] > 0.1


def test_with_a_pipeline_no_stall_is_told_from_waiting_for_a_stage():
    requests = table([0.0] * 8, [200] * 8, [50] * 8)
    assert served(requests, pipeline_parallel_size=2).summary["decode_stall_fraction"] is None
    assert served(requests).summary["decode_stall_fraction"] == pytest.approx(0.0, abs=1e-9)


# -- queueing for KV blocks --------------------------------------------------------------------------------------------


def test_a_static_batch_keeps_who_found_no_block_waiting_until_it_ends():
    requests = table([0.0, 0.0], [64, 64], [100, 100])
    result = served(requests, scheduler="static", keys={"reservation": "oracle"}, num_gpu_blocks_override=12)
    first_s, second_s = result.requests["e2e_s"]
    share = result.summary["bound_by"]["kv_queue_fraction"]
    assert share == pytest.approx(first_s / second_s, rel=1e-9)
    assert 0.4 < share < 0.6
    assert result.summary["bottleneck"].startswith("KV memory")


def test_a_static_batch_does_not_queue_for_blocks_whoever_comes_later():
    requests = table([0.0, 1e-3], [64, 64], [100, 100])
    result = served(requests, scheduler="static", keys={"reservation": "oracle"}, num_gpu_blocks_override=12)
    assert result.summary["bound_by"]["kv_queue_fraction"] == 0.0


@pytest.mark.parametrize("scheduler", ["chunked_prefill", "orca", "static"])
def test_a_micro_batch_left_empty_for_want_of_blocks_queues_for_them(scheduler):
    keys = {} if scheduler == "chunked_prefill" else {"reservation": "oracle"}
    prompt, answer = (176, 2) if scheduler == "chunked_prefill" else (64, 100)
    requests = table([0.0, 0.0], [prompt] * 2, [answer] * 2)
    result = served(
        requests, scheduler=scheduler, keys=keys, num_gpu_blocks_override=12, pipeline_parallel_size=2, max_num_seqs=2
    )
    first_s, second_s = result.requests["e2e_s"]
    # the other micro-batch is asked when the first stage is free
    asked_s = result.attributions[0].busy_s[0] - result.run.deployment.transfer_s(prompt)
    expected = (first_s - asked_s) / second_s
    assert result.summary["bound_by"]["kv_queue_fraction"] == pytest.approx(expected, rel=1e-9)
    assert result.summary["bottleneck"].startswith("KV memory")


def test_a_preempted_sequence_queues_for_blocks_from_the_step_that_put_it_off():
    result = served(table([0.0, 0.0], [64, 64], [100, 100]), num_gpu_blocks_override=14)
    assert result.summary["preemptions"] == 1
    steps = result.steps
    alone = steps[(steps["prefill_tokens"] == 0) & (steps["decode_seqs"] == 1) & (steps["waiting"] == 1)]
    waited_s = alone["duration_s"].sum()
    share = result.summary["bound_by"]["kv_queue_fraction"]
    assert share == pytest.approx(waited_s / result.summary["duration_s"], rel=1e-9)
    assert share > 0.0


# -- pipelines ---------------------------------------------------------------------------------------------------------


def test_transfers_between_stages_are_network_time_and_no_bubble():
    result = served(table([0.0], [200], [50]), node="dgx-a100-80gb", pipeline_parallel_size=4)
    deployment = result.run.deployment
    transfers_s = 3 * (deployment.transfer_s(200) + 49 * deployment.transfer_s(1))
    duration_s, shares = result.summary["duration_s"], result.summary["bound_by"]
    assert shares["network_fraction"] == pytest.approx(transfers_s / (4 * duration_s), rel=1e-9)
    assert result.summary["pipeline_bubble_fraction"] == pytest.approx(0.75, rel=1e-9)  # one stage of four at a time
    assert shares["idle_fraction"] == pytest.approx(0.75, rel=1e-9)


@given(requests=workloads())
@settings(max_examples=10, deadline=None)
def test_stages_never_work_or_wait_for_transfers_longer_than_there_is_time(requests):
    result = served(requests, node="dgx-a100-80gb", pipeline_parallel_size=3, max_num_seqs=6)
    assert all(-1e-12 <= share <= 1.0 for share in result.summary["bound_by"].values())
    assert -1e-12 <= result.summary["pipeline_bubble_fraction"] <= 1.0


# -- grades ------------------------------------------------------------------------------------------------------------


class GradedDevice(Device):
    """Grades kernels as told."""

    def __init__(self, default: str, **grades: str) -> None:
        super().__init__(catalog.gpu("h100-sxm"))
        self._default, self._grades = default, grades

    def kernel(self, op):
        return replace(super().kernel(op), grade=self._grades.get(OPERATORS[type(op)], self._default))


def operators_grade(model: str, default: str, **grades: str) -> str:
    dtypes = Dtypes(weight="bf16", activation="bf16", kv_cache="bf16")
    device = GradedDevice(default, **grades)
    return _grades(load_model(model), device, framework("ideal"), dtypes, [])["operators"]


def test_operators_are_as_good_as_the_worst_kind_of_kernel_that_the_model_runs():
    assert operators_grade("llama-3-8b", "measured", grouped_gemm="assumed") == "measured"
    assert operators_grade("mixtral-8x7b", "measured", grouped_gemm="assumed") == "assumed"
    assert operators_grade("llama-3-8b", "measured", attention_decode="quoted") == "quoted"
    assert operators_grade("llama-3-8b", "assumed", gemm="measured") == "assumed"


def test_operators_are_measured_where_the_device_was_and_assumed_elsewhere():
    measured, others = (
        served(table([0.0], [10], [2]), node=node).summary["grades"] for node in ("dgx-h100", "mi300x-8x")
    )
    assert measured["operators"] == "measured"
    assert others["operators"] == "assumed"


def test_links_are_graded_wherever_something_crosses_them():
    requests = table([0.0], [10], [2])
    assert "links" not in served(requests).summary["grades"]
    assert served(requests, tensor_parallel_size=2).summary["grades"]["links"] == "measured"
    assert served(requests, pipeline_parallel_size=2).summary["grades"]["links"] == "measured"
    across = served(requests, tensor_parallel_size=8, pipeline_parallel_size=2, nodes=2)
    assert across.summary["grades"]["links"] == "assumed"  # tensor parallelism stays on NVLink, stages do not
    assert across.summary["grade"] == "assumed"
    both = fabric_links(tensor_fabric(catalog.node("dgx-h100"), 16, None))
    assert [link.kind for link in both] == ["nvlink", "infiniband"]


# -- time --------------------------------------------------------------------------------------------------------------


def test_time_counts_from_the_first_arrival():
    gaps, lengths = np.arange(20) * 0.05, np.full(20, 100)
    early, late = (served(table(gaps + start_s, lengths, lengths)).summary for start_s in (0.0, 1000.0))
    for name in ("duration_s", "output_throughput", "mfu", "mbu", "cost_usd", "request_goodput_per_s"):
        assert late[name] == pytest.approx(early[name], rel=1e-9)
    assert late["bound_by"] == pytest.approx(early["bound_by"], abs=1e-9)


# -- what routers ask --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckingRouter(LeastKv):
    """Sums up what each replica counts."""

    asked: ClassVar[list[int]] = []

    def route(self, order, session, replicas, now_s, random):
        for replica in replicas:
            queued = [*replica.waiting, *map(replica.inbox.sequence, replica.inbox._pending)]
            expected = sum(replica._scheduler.blocks_at_admission(s, 16) for s in queued)
            assert replica.queued_blocks == expected
            self.asked.append(expected)
        return LeastKv.route(self, order, session, replicas, now_s, random)


@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize(
    ("scheduler", "keys"), [("chunked_prefill", {}), ("prefill_first", {"preemption_mode": "swap"}), ("orca", {})]
)
def test_queued_blocks_are_those_of_everyone_who_queues(monkeypatch, scheduler, keys, pp):
    monkeypatch.setitem(ROUTERS, "checking", CheckingRouter)
    CheckingRouter.asked.clear()
    rng = np.random.default_rng(1)
    requests = table(rng.uniform(0, 1, 100).cumsum() * 0.02, rng.integers(1, 900, 100), rng.integers(1, 300, 100))
    result = served(
        requests, scheduler=scheduler, keys=keys, router="checking", replicas=2, num_gpu_blocks_override=90,
        pipeline_parallel_size=pp, max_model_len=1300,
    )  # fmt: skip
    assert max(CheckingRouter.asked) > 100
    assert all(replica.queued_blocks == 0 for replica in result.run.replicas)


def test_asking_for_memory_costs_no_more_the_longer_the_queue(monkeypatch):
    kind, calls = SCHEDULERS["chunked_prefill"], []
    original = kind.blocks_at_admission
    monkeypatch.setattr(kind, "blocks_at_admission", lambda *given: (calls.append(1), original(*given))[1])
    counts = []
    for count in (100, 200):
        calls.clear()
        lengths = np.full(count, 16)
        served(table(np.arange(count) * 1e-6, lengths, lengths), router="least_kv", replicas=2, max_num_seqs=1)
        counts.append(len(calls))
    assert counts[1] < 2.1 * counts[0]
