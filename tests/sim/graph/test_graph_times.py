from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_graphs import WHOLE, ready_s, task_graphs

from hardware_models.errors import FleetcastError
from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph import compile_graph, execute, lower_bound_s, max_plus


@given(task_graphs())
@settings(max_examples=120, deadline=None)
def test_max_plus_gives_the_times_of_the_clock_to_the_last_bit(graph: TaskGraph) -> None:
    assert max_plus(graph) == execute(graph)


@given(task_graphs())
@settings(max_examples=80, deadline=None)
def test_a_task_starts_when_all_that_it_waits_for_has_ended_and_not_later(graph: TaskGraph) -> None:
    times = execute(graph)
    for task in range(len(graph)):
        assert times.start_s[task] == ready_s(graph, times.end_s, task)
        assert times.end_s[task] == times.start_s[task] + graph.duration_s[task]
    assert times.makespan_s == max(times.end_s, default=0.0)


@given(task_graphs(by_priority=True))
@settings(max_examples=100, deadline=None)
def test_no_execution_beats_its_longest_path_or_its_busiest_stream(graph: TaskGraph) -> None:
    makespan = execute(graph).makespan_s
    assert lower_bound_s(graph) <= makespan
    assert max(compile_graph(graph).longest_paths(graph.duration_s), default=0.0) <= makespan
    for stream in range(len(graph.streams)):
        busy = sum(d for s, d in zip(graph.stream, graph.duration_s, strict=True) if s == stream)
        assert makespan >= busy * (1 - 1e-12)


@given(task_graphs(by_priority=True))
@settings(max_examples=80, deadline=None)
def test_streams_run_one_task_at_a_time(graph: TaskGraph) -> None:
    times = execute(graph)
    for stream in range(len(graph.streams)):
        spans = sorted(
            (times.start_s[task], times.end_s[task]) for task in range(len(graph)) if graph.stream[task] == stream
        )
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def by_hand(graph: TaskGraph) -> list[float]:
    """Instant by instant: of the tasks that are ready at it, each idle stream takes the first by priority."""
    start: dict[int, float] = {}
    end: dict[int, float] = {}
    now = 0.0
    while len(end) < len(graph) or max(end.values(), default=0.0) > now:
        done = {task for task, end_s in end.items() if end_s <= now}
        for stream, one in enumerate(graph.streams):
            left = [task for task in range(len(graph)) if graph.stream[task] == stream and task not in start]
            if any(graph.stream[task] == stream and end_s > now for task, end_s in end.items()):
                continue
            ready = [task for task in (left if one.by_priority else left[:1]) if done.issuperset(graph.after[task])]
            if ready:
                task = min(ready, key=lambda task: (-graph.priority[task] if one.by_priority else 0, task))
                start[task], end[task] = now, now + graph.duration_s[task]
        now = min((end_s for end_s in end.values() if end_s > now), default=now)
    return [start[task] for task in range(len(graph))]


@given(task_graphs(by_priority=True, durations=WHOLE, loose=False))
@settings(max_examples=100, deadline=None)
def test_a_stream_by_priority_takes_the_first_of_those_that_are_ready(graph: TaskGraph) -> None:
    assert execute(graph).start_s == by_hand(graph)


@given(task_graphs(by_priority=True, budgets=st.just(1e9)))
@settings(max_examples=50, deadline=None)
def test_the_same_graph_gives_the_same_times_twice(graph: TaskGraph) -> None:
    assert execute(graph) == execute(graph)


def test_equal_priorities_run_in_the_order_in_which_they_were_added() -> None:
    graph = TaskGraph()
    stream = graph.add_stream(0, "compute", by_priority=True)
    for priority in (0, 2, 1, 2, 0):
        graph.add(stream, 1.0, "work", priority=priority)
    assert execute(graph).start_s == [3.0, 0.0, 2.0, 1.0, 4.0]


def test_priority_counts_among_all_that_get_ready_at_one_instant() -> None:
    graph = TaskGraph()
    feeders = [graph.add_stream(0, name) for name in "abc"]
    stream = graph.add_stream(0, "compute", by_priority=True)
    for feeder, priority in zip(feeders, (0, 1, 2), strict=True):
        work = graph.add(feeder, 1.0, "work")
        gate = graph.add(NO_STREAM, 0.0, "gate", [work])
        graph.add(stream, 1.0, "low to high", [gate], priority=priority)
    assert [execute(graph).start_s[task] for task in (2, 5, 8)] == [3.0, 2.0, 1.0]


def test_a_second_stream_lets_work_overlap() -> None:
    def makespan_s(streams: int) -> float:
        graph = TaskGraph()
        lanes = [graph.add_stream(0, f"lane {lane}") for lane in range(streams)]
        for number in range(6):
            graph.add(lanes[number % streams], 1.0 + number, "work")
        return execute(graph).makespan_s

    assert [makespan_s(1), makespan_s(2), makespan_s(6)] == [21.0, 12.0, 6.0]


def test_tasks_of_no_stream_are_not_felt_by_others() -> None:
    graph = TaskGraph()
    delays = [graph.add(NO_STREAM, 2.0, "delay") for _ in range(3)]
    last = graph.add(NO_STREAM, 0.0, "all", delays)
    assert execute(graph).end_s == [2.0] * 4
    assert execute(graph).start_s[last] == 2.0


def test_long_chains_of_moments_do_not_nest() -> None:
    graph = TaskGraph()
    last = graph.add(NO_STREAM, 1.0, "delay")
    for _ in range(5_000):
        last = graph.add(NO_STREAM, 0.0, "moment", [last])
    assert execute(graph).end_s == max_plus(graph).end_s == [1.0] * 5_001


def test_a_wide_join_waits_for_the_last() -> None:
    graph = TaskGraph()
    stream = graph.add_stream(0, "compute")
    many = [graph.add(NO_STREAM, float(number % 97), "work") for number in range(500)]
    first = graph.add(stream, 100.0, "before")
    join = graph.add(stream, 1.0, "join", many)
    assert max_plus(graph) == execute(graph)
    assert execute(graph).start_s[join] == execute(graph).end_s[first] == 100.0


def test_an_empty_graph_takes_no_time() -> None:
    assert execute(TaskGraph()) == max_plus(TaskGraph())
    assert execute(TaskGraph()).makespan_s == lower_bound_s(TaskGraph()) == 0.0


def test_max_plus_refuses_streams_by_priority() -> None:
    graph = TaskGraph()
    stream = graph.add_stream(3, "compute", by_priority=True)
    assert max_plus(graph).makespan_s == 0.0  # nothing to choose from
    graph.add(stream, 1.0, "work")
    with pytest.raises(FleetcastError, match="'compute' of device 3 chooses by priority; run it on the clock"):
        max_plus(graph)
    with pytest.raises(FleetcastError, match="run the graph on the clock"):
        compile_graph(graph).ends([1.0])


def test_priority_waits_for_all_that_follows_within_an_instant() -> None:
    graph = TaskGraph()
    a, b, copy = (graph.add_stream(0, name) for name in ("a", "b", "copy"))
    stream = graph.add_stream(0, "compute", by_priority=True)
    low = graph.add(stream, 1.0, "low", [graph.add(a, 1.0, "work")])
    last = graph.add(b, 1.0, "work")
    for _ in range(3):
        last = graph.add(copy, 0.0, "mark", [graph.add(NO_STREAM, 0.0, "moment", [last])])
        last = graph.add(b, 0.0, "mark", [last])
    high = graph.add(stream, 1.0, "high", [last], priority=1)
    start_s = execute(graph).start_s
    assert (start_s[high], start_s[low]) == (1.0, 2.0)
