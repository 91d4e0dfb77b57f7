from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_graphs import task_graphs

from hardware_models.errors import FleetcastError
from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph import MemoryLedger, Peak, execute, max_plus, memory_profile, peak

UNLIMITED = st.just(float("inf"))


@given(task_graphs(budgets=UNLIMITED, by_priority=True))
@settings(max_examples=80, deadline=None)
def test_a_profile_is_what_has_been_taken_less_what_has_been_given_back(graph: TaskGraph) -> None:
    times = execute(graph)
    for pool in range(len(graph.pools)):
        t_s, used = memory_profile(graph, times, pool)
        assert (np.diff(t_s) > 0).all()
        for at_s, held in zip(t_s, used, strict=True):
            by_hand: dict[str, float] = defaultdict(float)
            for change in graph.memory:
                moment_s = (times.start_s if change.change_bytes > 0 else times.end_s)[change.task]
                by_hand[change.owner] += change.change_bytes if change.pool == pool and moment_s <= at_s else 0.0
            assert held == sum(by_hand.values())
            if held == used.max() > 0 and at_s == peak(graph, times, pool).t_s:
                owners = peak(graph, times, pool).owners
                assert owners == {owner: size for owner, size in by_hand.items() if size}
                assert list(owners.values()) == sorted(owners.values(), reverse=True)


@given(task_graphs(budgets=UNLIMITED))
@settings(max_examples=80, deadline=None)
def test_what_is_taken_is_given_back_and_pools_end_empty(graph: TaskGraph) -> None:
    times = execute(graph)
    usage = MemoryLedger(graph).usage(times)
    for pool in range(len(graph.pools)):
        t_s, used = usage.profile(pool)
        assert not len(used) or used[-1] == 0.0
        assert (used >= 0).all()
        found = usage.peak(pool)
        assert found.used_bytes == max(used, default=0.0) == sum(found.owners.values())
        assert found.used_bytes == 0.0 or found.t_s == t_s[int(np.argmax(used))]
        assert usage.most_asked(pool) >= found.used_bytes


def test_bytes_given_back_and_taken_at_one_instant_do_not_add_up() -> None:
    graph = TaskGraph()
    stream, pool = graph.add_stream(0, "compute"), graph.add_pool(0, "hbm")
    for number in range(3):
        task = graph.add(stream, 1.0, "work")
        graph.acquire(task, pool, 10.0, f"buffer {number}")
        graph.release(task, pool, 10.0, f"buffer {number}")
    times = execute(graph)
    t_s, used = memory_profile(graph, times, pool)
    assert t_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert used.tolist() == [10.0, 10.0, 10.0, 0.0]
    assert peak(graph, times, pool) == Peak(0.0, 10.0, {"buffer 0": 10.0})


def test_owners_at_the_peak_come_largest_first() -> None:
    graph = TaskGraph()
    stream, pool = graph.add_stream(0, "compute"), graph.add_pool(0, "hbm")
    load = graph.add(stream, 1.0, "load")
    work = graph.add(stream, 2.0, "work")
    graph.acquire(load, pool, 5.0, "weights")
    graph.acquire(work, pool, 3.0, "activations")
    graph.acquire(work, pool, 7.0, "gradients")
    graph.release(work, pool, 3.0, "activations")
    found = peak(graph, execute(graph), pool)
    assert found == Peak(1.0, 15.0, {"gradients": 7.0, "weights": 5.0, "activations": 3.0})
    assert list(found.owners) == ["gradients", "weights", "activations"]


def test_what_is_held_for_no_time_is_not_seen_but_asked_for() -> None:
    graph = TaskGraph()
    pool = graph.add_pool(0, "hbm")
    task = graph.add(NO_STREAM, 0.0, "moment")
    graph.acquire(task, pool, 4.0, "buffer")
    graph.release(task, pool, 4.0, "buffer")
    usage = MemoryLedger(graph).usage(execute(graph))
    assert usage.peak(pool) == Peak(0.0, 0.0, {})
    assert usage.most_asked(pool) == 4.0


def test_a_pool_that_nothing_uses_is_empty() -> None:
    graph = TaskGraph()
    pool = graph.add_pool(0, "hbm")
    assert peak(graph, max_plus(graph), pool) == Peak(0.0, 0.0, {})
    assert [len(column) for column in memory_profile(graph, max_plus(graph), pool)] == [0, 0]
    with pytest.raises(FleetcastError, match="pool 1 is none of the graph's 1"):
        peak(graph, max_plus(graph), pool + 1)


def test_giving_back_more_than_was_taken_is_refused() -> None:
    graph = TaskGraph()
    stream, pool = graph.add_stream(0, "compute"), graph.add_pool(2, "hbm")
    graph.acquire(graph.add(stream, 1.0, "take"), pool, 4.0, "buffer")
    graph.release(graph.add(stream, 1.0, "give"), pool, 6.0, "buffer")
    with pytest.raises(FleetcastError, match=r"pool 'hbm' of device 2: by 2.0 s 2 bytes more are given back"):
        memory_profile(graph, max_plus(graph), pool)
    with pytest.raises(FleetcastError, match=r"task 1 'give' .* gives back 6 bytes of pool 'hbm' of device 2"):
        execute(graph)


def test_fractions_of_bytes_leave_nothing_behind_that_matters() -> None:
    graph = TaskGraph()
    stream, pool = graph.add_stream(0, "compute"), graph.add_pool(0, "hbm", 0.3)
    takes = [graph.add(stream, 1.0, "take") for _ in range(3)]
    for task in takes:
        graph.acquire(task, pool, 0.1, "buffer")
    for _ in takes:
        graph.release(graph.add(stream, 1.0, "give"), pool, 0.1, "buffer")
    whole = graph.add(stream, 1.0, "take all")
    graph.acquire(whole, pool, 0.3, "buffer")
    times = execute(graph)
    assert times == max_plus(graph)
    assert peak(graph, times, pool).used_bytes == pytest.approx(0.3, rel=1e-12)
