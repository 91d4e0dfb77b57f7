"""Memory that tasks wait for: budgets hold, the longest waiting comes first, and a standstill says who holds what."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from task_graphs import WHOLE, pipeline, ready_s, task_graphs

from hardware_models.errors import DoesNotFitError, FleetcastError
from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph import MemoryLedger, Times, execute, lower_bound_s, max_plus, peak

BUDGETS = st.sampled_from([4.0, 5.0, 6.0, 8.0, 12.0, float("inf")])


def run_or_stall(graph: TaskGraph) -> Times | None:
    """None where the budgets let nothing go on."""
    try:
        return execute(graph)
    except DoesNotFitError:
        return None


@given(task_graphs(budgets=BUDGETS, by_priority=True))
@settings(max_examples=150, deadline=None)
def test_no_budget_is_ever_exceeded(graph: TaskGraph) -> None:
    times = run_or_stall(graph)
    assume(times is not None)
    usage = MemoryLedger(graph).usage(times)
    for number, pool in enumerate(graph.pools):
        _, used = usage.profile(number)
        assert usage.peak(number).used_bytes <= pool.budget_bytes
        assert not len(used) or used[-1] == 0.0
    assert all(times.end_s[task] == times.start_s[task] + graph.duration_s[task] for task in range(len(graph)))
    assert lower_bound_s(graph) <= times.makespan_s
    assert execute(graph) == times


@given(task_graphs(budgets=BUDGETS))
@settings(max_examples=150, deadline=None)
def test_where_max_plus_takes_a_graph_with_budgets_the_clock_agrees(graph: TaskGraph) -> None:
    try:
        times = max_plus(graph)
    except FleetcastError:
        clock = run_or_stall(graph)
        assert clock is None or clock.makespan_s >= lower_bound_s(graph)
    else:
        assert execute(graph) == times


@given(task_graphs(budgets=BUDGETS))
@settings(max_examples=100, deadline=None)
def test_a_graph_that_waits_for_memory_is_refused_by_max_plus(graph: TaskGraph) -> None:
    clock = run_or_stall(graph)
    waited = clock is None or any(clock.start_s[task] > ready_s(graph, clock.end_s, task) for task in range(len(graph)))
    assume(waited)
    with pytest.raises(FleetcastError, match=r"is asked for .* bytes at once and has .*; run it on the clock"):
        max_plus(graph)


@given(task_graphs(budgets=BUDGETS, durations=WHOLE, pools=1))
@settings(max_examples=150, deadline=None)
def test_whoever_waits_longest_for_memory_lacks_room(graph: TaskGraph) -> None:
    """At every instant at which tasks wait, one of those who asked first could not have had its bytes."""
    times = run_or_stall(graph)
    assume(times is not None)
    asked = [ready_s(graph, times.end_s, task) for task in range(len(graph))]
    needs = [
        sum(c.change_bytes for c in graph.memory if c.task == task and c.change_bytes > 0) for task in range(len(graph))
    ]
    for now in sorted({*times.start_s, *times.end_s}):
        waiting = [task for task in range(len(graph)) if asked[task] <= now < times.start_s[task]]
        if not waiting:
            continue
        used = sum(
            change.change_bytes
            for change in graph.memory
            if (times.start_s if change.change_bytes > 0 else times.end_s)[change.task] <= now
        )
        first = min(asked[task] for task in waiting)
        assert any(used + needs[task] > graph.pools[0].budget_bytes for task in waiting if asked[task] == first)


def held_for(
    graph: TaskGraph, stream: int, pool: int, size: float, duration_s: float, after: tuple[int, ...] = ()
) -> int:
    task = graph.add(stream, duration_s, "work", after)
    graph.acquire(task, pool, size, "buffer")
    graph.release(task, pool, size, "buffer")
    return task


def test_a_small_one_does_not_pass_a_large_one_that_waits() -> None:
    graph = TaskGraph()
    a, b, c = (graph.add_stream(0, name) for name in "abc")
    pool = graph.add_pool(0, "hbm", 10.0)
    held_for(graph, a, pool, 6.0, 5.0)
    large = held_for(graph, b, pool, 8.0, 1.0, (graph.add(NO_STREAM, 1.0, "delay"),))
    small = held_for(graph, c, pool, 2.0, 1.0, (graph.add(NO_STREAM, 2.0, "delay"),))
    start_s = execute(graph).start_s
    assert (start_s[large], start_s[small]) == (5.0, 5.0)  # both fit once the first has ended
    graph.pools[0] = type(graph.pools[0])(0, "hbm", 9.0)
    start_s = execute(graph).start_s
    assert (start_s[large], start_s[small]) == (5.0, 6.0)


def test_tasks_of_no_stream_wait_in_the_same_line() -> None:
    graph = TaskGraph()
    stream, pool = graph.add_stream(0, "compute"), graph.add_pool(0, "hbm", 10.0)
    loose = [held_for(graph, NO_STREAM, pool, 6.0, 2.0) for _ in range(3)]
    last = held_for(graph, stream, pool, 4.0, 1.0, (graph.add(NO_STREAM, 1.0, "delay"),))
    start_s = execute(graph).start_s
    assert [start_s[task] for task in loose] == [0.0, 2.0, 4.0]
    assert start_s[last] == 4.0  # it asked after them


def test_two_pools_are_taken_at_once_or_not_at_all() -> None:
    graph = TaskGraph()
    a, b, c = (graph.add_stream(0, name) for name in "abc")
    hbm, host = graph.add_pool(0, "hbm", 10.0), graph.add_pool(0, "host", 10.0)
    held_for(graph, a, hbm, 10.0, 3.0)
    both = graph.add(b, 1.0, "both", [graph.add(NO_STREAM, 1.0, "delay")])
    for pool in (hbm, host):
        graph.acquire(both, pool, 10.0, "buffer")
        graph.release(both, pool, 10.0, "buffer")
    behind = held_for(graph, c, host, 1.0, 1.0, (graph.add(NO_STREAM, 2.0, "delay"),))
    times = execute(graph)
    assert (times.start_s[both], times.start_s[behind]) == (3.0, 4.0)
    assert peak(graph, times, host).used_bytes == 10.0


def test_a_stream_by_priority_passes_over_what_has_no_room() -> None:
    graph = TaskGraph()
    stream, other = graph.add_stream(0, "compute", by_priority=True), graph.add_stream(0, "copy")
    pool = graph.add_pool(0, "hbm", 10.0)
    held_for(graph, other, pool, 5.0, 4.0)
    tasks = [graph.add(stream, 1.0, "work", priority=priority) for priority in (2, 1, 0)]
    graph.acquire(tasks[0], pool, 8.0, "buffer")
    graph.acquire(tasks[1], pool, 4.0, "buffer")
    graph.release(tasks[1], pool, 4.0, "buffer")
    start_s = execute(graph).start_s
    assert [start_s[task] for task in tasks] == [4.0, 0.0, 1.0]


def test_a_budget_for_fewer_activations_makes_a_step_longer_and_a_loose_one_changes_nothing() -> None:
    def run(budget: float) -> tuple[float, float]:
        graph = pipeline(4, 8, 1.0, 2.0, "1f1b")
        graph.pools = [type(pool)(pool.device, pool.name, budget) for pool in graph.pools]
        times = execute(graph)
        return times.makespan_s, max(peak(graph, times, pool).used_bytes for pool in range(4))

    free = run(float("inf"))
    assert free == (33.0, 4.0)
    assert run(4.0) == free
    with pytest.raises(DoesNotFitError) as error:
        run(3.0)  # the fourth forward comes before the first backward, whatever it waits for
    assert (
        "no task can go on: task 3 'forward 3' on stream 'compute' of device 0 waits for 1 bytes of pool 'hbm' of "
        in (str(error.value))
    )
    assert "which holds 3 of 3 (activations 3)" in str(error.value)


def test_streams_by_priority_turn_a_tight_budget_into_a_longer_step() -> None:
    def makespan_s(budget: float) -> float:
        graph = TaskGraph()
        stream, copy = graph.add_stream(0, "compute", by_priority=True), graph.add_stream(0, "d2h")
        pool = graph.add_pool(0, "hbm", budget)
        for _ in range(6):
            forward = graph.add(stream, 1.0, "forward")
            graph.acquire(forward, pool, 1.0, "activations")
            graph.release(graph.add(copy, 2.0, "offload", [forward]), pool, 1.0, "activations")
        return execute(graph).makespan_s

    assert [makespan_s(budget) for budget in (1.0, 2.0, 3.0, 9.0)] == [18.0, 13.0, 13.0, 13.0]


def test_a_task_that_takes_more_than_the_budget_is_refused_at_once() -> None:
    graph = TaskGraph()
    stream, pool = graph.add_stream(1, "compute"), graph.add_pool(1, "hbm", 10.0)
    task = graph.add(stream, 1.0, "work")
    graph.acquire(task, pool, 6.0, "weights")
    graph.acquire(task, pool, 6.0, "buffer")
    with pytest.raises(
        DoesNotFitError, match=r"task 0 'work' .* takes 12 bytes of pool 'hbm' of device 1, whose budget is 10"
    ):
        execute(graph)


def test_streams_that_wait_for_each_other_s_memory_are_named() -> None:
    graph = TaskGraph()
    streams = [graph.add_stream(device, "compute") for device in range(2)]
    pools = [graph.add_pool(device, "hbm", 10.0) for device in range(2)]
    for stream in range(2):
        first = graph.add(streams[stream], 1.0, "take")
        graph.acquire(first, pools[stream], 6.0, "mine")
        second = graph.add(streams[stream], 1.0, "borrow")
        graph.acquire(second, pools[1 - stream], 5.0, "theirs")
        graph.release(second, pools[stream], 6.0, "mine")
    with pytest.raises(DoesNotFitError) as error:
        execute(graph)
    for device in range(2):
        task = f"'borrow' on stream 'compute' of device {device} waits for 5 bytes"
        assert f"{task} of pool 'hbm' of device {1 - device}, which holds 6 of 10 (mine 6)" in str(error.value)


def test_memory_given_back_at_an_instant_can_be_taken_at_it() -> None:
    """Even where the taker asks before the giver has ended, and by a task that takes no time itself."""
    graph = TaskGraph()
    a, b = graph.add_stream(0, "a"), graph.add_stream(0, "b")
    pool = graph.add_pool(0, "hbm", 10.0)
    graph.add(a, 1.0, "work")
    taker = graph.add(a, 1.0, "take")
    graph.acquire(taker, pool, 10.0, "buffer")
    held = graph.add(b, 1.0, "hold")
    graph.acquire(held, pool, 10.0, "other")
    graph.release(graph.add(NO_STREAM, 0.0, "moment", [held]), pool, 10.0, "other")
    assert execute(graph).start_s[taker] == 1.0


@pytest.mark.parametrize("by_priority", [False, True])
def test_whoever_is_next_in_line_starts_at_the_same_instant_if_there_is_room_for_both(by_priority: bool) -> None:
    graph = TaskGraph()
    first, second = graph.add_stream(0, "a"), graph.add_stream(0, "b", by_priority=by_priority)
    pool = graph.add_pool(0, "hbm", 10.0)
    held_for(graph, first, pool, 10.0, 5.0)
    ahead = held_for(graph, second, pool, 6.0, 3.0, (graph.add(NO_STREAM, 1.0, "delay"),))
    behind = held_for(graph, NO_STREAM, pool, 4.0, 1.0, (graph.add(NO_STREAM, 2.0, "delay"),))
    start_s = execute(graph).start_s
    assert (start_s[ahead], start_s[behind]) == (5.0, 5.0)


def test_a_task_that_is_called_twice_in_an_instant_starts_once() -> None:
    graph = TaskGraph()
    stream, pool = graph.add_stream(0, "compute"), graph.add_pool(0, "hbm", 10.0)
    held = graph.add(stream, 5.0, "hold")
    graph.acquire(held, pool, 10.0, "buffer")
    for _ in range(2):
        graph.release(graph.add(NO_STREAM, 0.0, "give", [held]), pool, 5.0, "buffer")
    waiting = held_for(graph, NO_STREAM, pool, 3.0, 1.0)
    graph.wait_for(waiting, graph.add(NO_STREAM, 1.0, "delay"))
    times = execute(graph)
    assert (times.start_s[waiting], times.end_s[waiting]) == (5.0, 6.0)
    assert peak(graph, times, pool).used_bytes == 10.0
