"""Checkpoints: every byte is copied and written once, the ring is never above its size, and waits are what they are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import ImpossibleError
from policies.checkpoint import CHECKPOINT, CheckpointJob, DataStates
from policies.checkpoint.job import COPY, FRESH, PAGEABLE, PINNED, STORAGE, THREAD, UPDATE, WRITE
from sim.graph import MemoryLedger, execute

RATES = {PINNED: 25e9, PAGEABLE: 10e9, FRESH: 4e9, THREAD: 1e9, STORAGE: 2e9}


def job(
    *, pass_s: float = 2.0, shard: float = 1e10, every: int = 1, count: int = 3, storage: float = 2e9
) -> CheckpointJob:
    rates = {**RATES, STORAGE: storage}
    return CheckpointJob(
        pass_s=pass_s, update_s=0.1, shard_bytes=shard, every=every, count=count, ranks_in_server=4, rates=rates
    )


def blocked_s(name: str, one: CheckpointJob, **keys: float) -> float:
    """Of all checkpoints of a job, which must move its bytes and stay within its buffer."""
    graph = CHECKPOINT[name](**keys).write(one)
    times = execute(graph)
    for kind in (COPY, WRITE):
        moved = sum(found.size_bytes for task, found in graph.transfer.items() if graph.kind[task] == kind)
        assert moved == pytest.approx(one.count * one.shard_bytes)
    usage = MemoryLedger(graph).usage(times)
    assert usage.peak(0).used_bytes <= graph.pools[0].budget_bytes * (1 + 1e-6)
    assert usage.profile(0)[1][-1] == pytest.approx(0.0, abs=1.0)
    last = max(times.end_s[task] for task, kind in enumerate(graph.kind) if kind == UPDATE)
    return last - one.steps * one.step_s


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from((0.1, 2.0, 30.0)),
    st.sampled_from((1e8, 1e10)),
    st.sampled_from((1, 2, 3, 1000)),
    st.sampled_from((2.6e9, 64e9)),
)
def test_bytes_are_conserved_and_lazy_copies_with_room_never_wait_longer(
    pass_s: float, shard: float, every: int, ring: float
) -> None:
    one = job(pass_s=pass_s, shard=shard, every=every)
    waited = {name: blocked_s(name, one) for name in CHECKPOINT if name != "datastates"}
    waited["datastates"] = blocked_s("datastates", one, host_buffer_bytes=ring)
    assert waited["datastates"] >= -1e-6
    if ring >= one.ranks_in_server * shard:
        assert waited["datastates"] <= waited["torch_snapshot"] + 1e-6
    assert waited["torch_snapshot"] <= waited["async"] + 1e-6
    assert waited["torch_snapshot"] <= waited["synchronous"] + 1e-6


def test_waits_are_those_of_the_closed_forms() -> None:
    slow = job(pass_s=100.0)  # passes hide what can be hidden
    assert blocked_s("synchronous", slow) == pytest.approx(
        3 * 10.0, rel=0.02
    )  # torch.save's thread, then its last copy
    assert blocked_s("async", slow) == pytest.approx(3 * 1e10 / 4e9)
    assert blocked_s("datastates", slow) == pytest.approx(0.0, abs=1e-6)
    quick = job(pass_s=0.0)  # the last update waits until all but the ring is on storage
    ring = 16e9
    waited = blocked_s("datastates", quick, host_buffer_bytes=4 * ring) + quick.steps * quick.step_s
    assert waited == pytest.approx((3e10 - ring) / 2e9, rel=0.1)


def test_a_ring_without_room_for_a_chunk_is_refused() -> None:
    with pytest.raises(ImpossibleError, match=r"host_buffer_bytes = 1e\+08.*give at least 1\.25e\+09"):
        DataStates(host_buffer_bytes=1e8).write(job())
