"""What a step waits for: the chain of tasks from its end back to its beginning, each as late as what it waited for."""

from __future__ import annotations

from bisect import bisect_right
from math import inf

from policies.task_graph import TaskGraph
from sim.graph.order import NOTHING, stream_predecessors
from sim.graph.times import Times

CLOSE = 1e-9  # relative to the step: ends that close to a start are what it waited for


def critical_seconds(graph: TaskGraph, times: Times) -> dict[str, float]:
    """Seconds of the step by kind of task along that chain, longest first; what no task explains is "waiting".

    A task waited for the latest to end of those it comes after, on its stream or otherwise; where none of them ended as
    it began, it waited for its turn on a stream by priority: for the task that ran there.
    """
    before = stream_predecessors(graph)
    by_end: dict[int, list[tuple[float, int]]] = {}
    for task, stream in enumerate(graph.stream):
        if stream >= 0 and graph.streams[stream].by_priority:
            by_end.setdefault(stream, []).append((times.end_s[task], task))
    for ends in by_end.values():
        ends.sort()
    task = max(range(len(graph)), key=lambda one: times.end_s[one])
    found: dict[str, float] = {}
    passed: set[int] = set()  # two tasks of no duration could each be the other's latest
    while True:
        passed.add(task)
        found[graph.kind[task]] = found.get(graph.kind[task], 0.0) + times.end_s[task] - times.start_s[task]
        begun = times.start_s[task]
        others = [*graph.after[task], *([before[task]] if before[task] != NOTHING else [])]
        beside = by_end.get(graph.stream[task], [])
        ended = bisect_right(beside, (begun, inf))
        others += [other for _, other in beside[max(0, ended - 2) : ended]]  # the latest, itself aside
        others = [other for other in others if other not in passed]
        if not others or begun <= CLOSE * times.makespan_s:
            break
        last = max(others, key=lambda one: (times.end_s[one], one))
        if begun - times.end_s[last] > CLOSE * times.makespan_s:
            found["waiting"] = found.get("waiting", 0.0) + begun - times.end_s[last]
        task = last
    return dict(sorted(found.items(), key=lambda item: -item[1]))
