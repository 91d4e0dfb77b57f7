"""Offload policies: every byte that is owed moves once, no tier overflows, and no resource is slower for being more."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.offload import (
    DRIVES,
    GPU,
    HOST,
    Fuyou,
    LayerWork,
    Machine,
    OffloadPolicy,
    OffloadWork,
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
    Fuyou(),
    Fuyou(swap_fraction=0.4, buffer_count=3, parameters="host"),
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
        adam_parameters_per_s=1e9,
        adam_bytes=28.0,
        budgets={GPU: 2e10, HOST: host, DRIVES: 1e13},
        host_s=0.01,
        gpu_adam_s=lambda parameters: parameters * 4e-11,
        gather_s=lambda size: size / 1e11,
        reduce_s=lambda size: size / 1e11,
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
    assert moved(graph, D2H, "gradients") == pytest.approx(2.0 * part * one.micro_batches * ratio)
    if isinstance(policy, ZeroOffload):
        assert moved(graph, H2D, "new weights") == pytest.approx(2.0 * part * ratio)
    else:
        assert moved(graph, H2D, "weights layer 0") == pytest.approx(2.0 * one.part(one.layers[1]) * passes)
    assert moved(graph, D2H, "activations") == pytest.approx(moved(graph, H2D, "activations"))
    if isinstance(policy, Fuyou) or getattr(policy, "optimizer_state", "") == "nvme":
        weights = 2.0 if getattr(policy, "parameters", "") == "nvme" else 0.0
        assert moved(graph, READ, "states") == pytest.approx(12.0 * part)
        assert moved(graph, WRITE, "states") == pytest.approx((12.0 + weights) * part)
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


def test_a_tier_that_is_short_is_named_with_what_is_missing() -> None:
    has = machine(host=1e9)
    needs = ZeroOffload().needs(work(), has)
    with pytest.raises(TierError, match=r"host memory is \d+\.\d GB short: a rank needs .*optimizer states") as raised:
        needs.check(has)
    assert raised.value.missing_bytes == pytest.approx(needs.total(HOST) - 1e9)
