"""Offload policies: every byte that is owed moves once, no tier overflows, and no resource is slower for being more."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import ImpossibleError
from policies.offload import (
    DRIVES,
    GPU,
    HOST,
    DeepOptimizerStates,
    Fuyou,
    LayerWork,
    LowRankStates,
    Machine,
    MemAscend,
    OffloadPolicy,
    OffloadWork,
    SsdTrain,
    Superpipeline,
    TierError,
    ZeroInfinity,
    ZeroOffload,
)
from policies.offload.writer import D2H, H2D, OF, READ, WRITE
from policies.task_graph import TaskGraph
from sim.graph import MemoryLedger, execute, lower_bound_s, max_plus
from sim.offload.memory import tier_peaks

POLICIES = (
    ZeroOffload(),
    ZeroOffload(delayed_update=True),
    ZeroOffload(ratio=0.5, activations="host"),
    ZeroInfinity(activations="host"),
    ZeroInfinity(optimizer_state="nvme", parameters="nvme", sub_group_size=3e8, buffer_count=1),
    ZeroInfinity(optimizer_state="nvme", parameters="host", sub_group_size=1e8, tiles=3),
    DeepOptimizerStates(gradients="cpu", gpu_stride=0, ratio=0.6),
    DeepOptimizerStates(gpu_stride=3, activations="host"),
    Fuyou(),
    Fuyou(swap_fraction=0.4, buffer_count=3, parameters="host"),
    MemAscend(slots="largest_tensor", pinned="powers_of_two", overflow_check="temporaries", sub_group_size=3e8),
    Superpipeline(),
    MemAscend(states="bf16", buffer_count=2, sub_group_size=1e8),
)


def machine(*, rate: float = 1e10, drives: float = 4e9, host: float = 1e12) -> Machine:
    """Of round numbers: 20 GB of GPU memory, as much below as is asked for."""
    return Machine(
        links={"up": rate, "down": rate, "both": 1.8 * rate, "dram": 1e11},
        h2d=("down", "both", "dram"),
        d2h=("up", "both", "dram"),
        copy_latency_s=1e-6,
        dram="dram",
        read_bytes_per_s=drives,
        write_bytes_per_s=0.6 * drives,
        pageable_bytes_per_s=0.4 * rate,
        thread_bytes_per_s=2e10,
        adam_parameters_per_s=1e9,
        adam_bytes=28.0,
        budgets={GPU: 2e10, HOST: host, DRIVES: 1e13},
        host_s=0.01,
        gpu_adam_s=lambda parameters: parameters * 4e-11,
        gather_s=lambda size: size / 1e11,
        reduce_s=lambda size: size / 1e11,
        raw_read_bytes_per_s=1.1 * drives,
        raw_write_bytes_per_s=0.7 * drives,
        gpu_touch_s=lambda size: size / 1e12,
        gpu_product_s=lambda m, n, k: 2.0 * m * n * k / 1e14,
        direct_read_bytes_per_s=drives,
        direct_write_bytes_per_s=0.6 * drives,
    )


def work(layers: int = 6, *, parameters: float = 1e8, micro_batches: int = 1, ranks: int = 1) -> OffloadWork:
    """Layers alike, between a table and an output."""
    layer = LayerWork("layer", parameters, 0.02, 0.04, 0.02, 5e7, 1e9, ((0.01, 2e8), (0.01, 0.0)))
    table = replace(layer, name="table", parameters=3 * parameters, products=())
    output = replace(layer, name="output", parameters=0.0, kept_bytes=0.0, products=())
    inner = tuple(replace(layer, name=f"layer {index}") for index in range(layers))
    return OffloadWork((table, *inner, output), micro_batches, ranks)


def moved(graph: TaskGraph, kind: str, what: str = "") -> float:
    """Bytes of all transfers of a kind whose names say what they carry."""
    found = graph.transfer.items()
    return sum(one.size_bytes for task, one in found if graph.kind[task] == kind and what in graph.name[task])


sizes = st.builds(
    work,
    st.integers(1, 8),
    parameters=st.sampled_from((1e6, 3e7, 2.5e8)),
    micro_batches=st.integers(1, 3),
    ranks=st.integers(1, 4),
)


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from(POLICIES), st.sampled_from((1e9, 2.5e10)), st.sampled_from((3e10, 1e12)))
def test_steps_move_what_they_owe_within_every_budget(
    one: OffloadWork, policy: OffloadPolicy, rate: float, host: float
) -> None:
    has = machine(rate=rate, host=host)
    needs = policy.needs(one, has)
    graph = policy.write(one, has)
    times = execute(graph)
    part, passes = one.parameters / one.ranks, 2.0 * one.micro_batches
    ratio = getattr(policy, "ratio", 1.0)
    last = 4.0 if isinstance(policy, DeepOptimizerStates) and policy.gradients == "gpu" else 2.0
    owed = (2.0 * (one.micro_batches - 1) + last) * part * ratio
    assert moved(graph, D2H, "gradients") == pytest.approx(owed)
    if isinstance(policy, DeepOptimizerStates):
        visited = moved(graph, H2D, "states subgroup") / 16.0
        assert moved(graph, D2H, "states subgroup") == pytest.approx(12.0 * visited)
        assert moved(graph, H2D, "new weights") == pytest.approx(2.0 * (part * ratio - visited))
        assert moved(graph, H2D, "gradients") == pytest.approx(2.0 * (one.micro_batches - 1) * part * ratio)
    elif isinstance(policy, ZeroOffload):
        assert moved(graph, H2D, "new weights") == pytest.approx(2.0 * part * ratio)
    else:
        size = 2.0 * one.part(one.layers[1])
        fewest = 1.0 if isinstance(policy, Superpipeline) else passes  # what is there may stay
        assert size * fewest * (1.0 - 1e-9) <= moved(graph, H2D, "weights layer 0") <= size * passes * (1.0 + 1e-9)
    assert moved(graph, D2H, "activations") == pytest.approx(moved(graph, H2D, "activations"))
    if isinstance(policy, Fuyou) or getattr(policy, "optimizer_state", "") == "nvme":
        weights = 2.0 if getattr(policy, "parameters", "") == "nvme" else 0.0
        assert moved(graph, READ, "states") == pytest.approx(12.0 * part)
        assert moved(graph, WRITE, "states") == pytest.approx((12.0 + weights) * part)
    if isinstance(policy, MemAscend):
        read, written = (6.0, 6.0) if policy.states == "bf16" else (16.0, 18.0)
        assert moved(graph, READ) == pytest.approx((read + 2.0 * passes) * part)
        assert moved(graph, WRITE) == pytest.approx(written * part)
    usage = MemoryLedger(graph).usage(times)
    for number, pool in enumerate(graph.pools):
        if OF in pool.name:
            assert usage.peak(number).used_bytes <= pool.budget_bytes * (1 + 1e-6)
        assert usage.profile(number)[1][-1:].sum() == pytest.approx(0.0, abs=1.0)
    if not needs.short(has):
        for tier, peak in tier_peaks(graph, times).items():
            assert peak.used_bytes <= has.budgets[tier] * (1 + 1e-9)
    assert times.makespan_s >= lower_bound_s(graph) * (1 - 1e-9)


@settings(max_examples=25, deadline=None)
@given(sizes, st.sampled_from(POLICIES))
def test_faster_links_and_more_drives_are_never_slower(one: OffloadWork, policy: OffloadPolicy) -> None:
    def step_s(**kwargs: float) -> float:
        return execute(policy.write(one, machine(**kwargs))).makespan_s

    before = step_s()
    assert step_s(drives=8e9) <= before * (1 + 1e-9)
    assert step_s(rate=2e10) <= before * (1 + 1e-9)


@pytest.mark.parametrize("policy", [ZeroOffload(), ZeroOffload(delayed_update=True), ZeroInfinity()])
def test_the_clock_and_max_plus_agree_where_nothing_is_shared(policy: OffloadPolicy) -> None:
    has = machine()
    has = replace(has, links={**has.links, "both": 1e12, "dram": 1e13})
    graph = policy.write(work(), has)
    graph.streams = [replace(stream, by_priority=False) for stream in graph.streams]  # drives are not used
    assert execute(graph).end_s == pytest.approx(max_plus(graph).end_s, rel=1e-9)


def test_delayed_update_hides_adam_behind_the_passes() -> None:
    plain = execute(ZeroOffload().write(work(20), machine())).makespan_s
    delayed = execute(ZeroOffload(delayed_update=True).write(work(20), machine())).makespan_s
    adam_s, cast_s, passes_s = 2.3, 2.3 * 6 / 28, 0.01 + 22 * 0.08
    assert plain == pytest.approx(passes_s + adam_s, rel=0.15)
    assert delayed == pytest.approx(adam_s + cast_s, rel=0.05)


def test_one_threads_upcast_keeps_the_backward_waiting_and_the_gpu_shortens_the_update() -> None:
    has, one = machine(), work(20)

    def step_s(**keys: Any) -> float:
        return execute(DeepOptimizerStates(pin_memory=True, **keys).write(one, has)).makespan_s

    on_cpu, on_gpu = step_s(gradients="cpu", gpu_stride=0), step_s(gpu_stride=0)
    assert on_cpu - on_gpu == pytest.approx(one.parameters * (2.0 / 1e10 + 6.0 / 2e10), rel=0.25)
    assert step_s(gpu_stride=2) < on_gpu
    assert DeepOptimizerStates().stride(has) == 2  # a subgroup comes as fast as the CPU updates one


def test_a_tier_that_is_short_is_named_with_what_is_missing() -> None:
    has = machine(host=1e9)
    needs = ZeroOffload().needs(work(), has)
    with pytest.raises(TierError, match=r"host memory is \d+\.\d GB short: a rank needs .*optimizer states") as raised:
        needs.check(has)
    assert raised.value.missing_bytes == pytest.approx(needs.total(HOST) - 1e9)


@pytest.mark.parametrize(("drives", "written"), [(4e9, False), (4e10, True)])
def test_activations_go_to_drives_as_far_as_they_are_back_in_time(drives: float, written: bool) -> None:
    has, one = machine(drives=drives, rate=1e11), work(12, micro_batches=2)
    one = replace(one, layers=tuple(replace(layer, kept_bytes=4e8, recompute_s=0.0) for layer in one.layers))
    graph, resident = (SsdTrain(fraction=share).write(one, has) for share in (None, 0.0))
    times, before = execute(graph), execute(resident)
    assert times.makespan_s == pytest.approx(before.makespan_s, rel=0.02)  # copies hide behind passes
    assert moved(graph, READ) == moved(graph, WRITE)
    assert 0.0 < moved(graph, WRITE) <= 2 * 14 * 4e8
    assert (moved(graph, WRITE) > 2 * 10 * 4e8) == written
    peak, all_kept = tier_peaks(graph, times)[GPU].used_bytes, tier_peaks(resident, before)[GPU].used_bytes
    assert peak <= SsdTrain().needs(one, has).total(GPU)
    assert (peak < all_kept - 2e9) == written
    late = SsdTrain(fraction=1.0).write(one, machine(drives=4e9, rate=1e11))
    assert execute(late).makespan_s > 1.5 * before.makespan_s


def test_writing_activations_never_needs_more_of_the_gpu_than_keeping_them_and_needs_drives() -> None:
    slow, one = machine(drives=1e8), work(12)
    all_written, all_kept = (SsdTrain(fraction=share).needs(one, slow).total(GPU) for share in (1.0, 0.0))
    assert all_written <= all_kept * (1 + 1e-9)
    with pytest.raises(ImpossibleError, match=r"the server has none.*offload\.drives"):
        SsdTrain().needs(one, replace(slow, direct_read_bytes_per_s=0.0, direct_write_bytes_per_s=0.0))


def test_groups_of_layers_move_as_many_bytes_in_fewer_copies_within_their_window() -> None:
    has, one = machine(), work(12)
    alone, by_three = (Superpipeline(moved_layers=size, resident_layers=6).write(one, has) for size in (1, 3))
    weights = moved(alone, H2D, "weights")
    assert moved(by_three, H2D, "weights") == pytest.approx(weights)
    wider = moved(Superpipeline(resident_layers=10).write(one, has), H2D, "weights")
    assert wider == pytest.approx(weights - 4 * 2e8)  # four layers more stay where forward turns to backward
    assert sum(1 for kind in by_three.kind if kind == H2D) < sum(1 for kind in alone.kind if kind == H2D)
    owned = [Superpipeline(resident_layers=size).needs(one, has).by_tier[GPU]["weights"] for size in (6, 10)]
    assert owned == [6 * 2e8, 10 * 2e8]
    slow = machine(rate=2e9)  # a layer's copy takes five forwards
    assert Superpipeline().resident(one, slow) == 6
    with pytest.raises(ImpossibleError, match="resident_layers = 3"):
        Superpipeline(moved_layers=2, resident_layers=3).needs(one, has)


@pytest.mark.parametrize("method", ["galore", "apollo", "adam"])
def test_low_rank_states_are_as_many_as_their_rules_say(method: str) -> None:
    shapes = ((1000.0, 4000.0), (6000.0, 1000.0))
    one = replace(work(4, parameters=1e7), matrices=shapes)
    policy = LowRankStates(method=method, rank=100, state_bits=16)  # type: ignore[arg-type]
    ends = one.layers[0].parameters + one.layers[-1].parameters
    each = {"adam": 2e7, "apollo": 200.0 * (4000 + 6000), "galore": 200.0 * (4000 + 6000) + 2 * 1000 * 100}[method]
    assert policy.state_elements(one) == pytest.approx(2 * ends + 4 * each)
    has = machine()
    graph = policy.write(one, has)
    layered = LowRankStates(method=method, rank=100, layerwise=True)  # type: ignore[arg-type]
    peaks = [tier_peaks(written, execute(written))[GPU].used_bytes for written in (graph, layered.write(one, has))]
    assert peaks[0] - peaks[1] > one.parameters  # most gradients, of two bytes, are never there together
    assert policy.needs(one, has).total(GPU) >= peaks[0]
    with pytest.raises(ImpossibleError, match="layerwise"):
        layered.needs(replace(one, micro_batches=2), has)
