"""In which order a graph's tasks can be evaluated, and the structure that is evaluated again with other durations.

Streams are walked as far as they go without a clock: one that must wait lets the others go on, and goes on itself
when what it waits for is done. What then has not been reached waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hardware_models.errors import FleetcastError
from policies.task_graph import TaskGraph
from sim.graph.checks import check_durations, check_graph, stream_name, task_name
from sim.graph.times import Times

NOTHING = -1  # the place of a predecessor that is not there: it ended at zero


@dataclass(frozen=True, slots=True)
class Compiled:
    """A graph's structure: tasks in order, each with two predecessors; joins of no duration stand for more.

    It knows nothing of priorities, budgets and shared links: `ends` and `times` are those of the clock only where
    `max_plus` accepts the graph, and never later than those of the clock where streams are FIFO.
    """

    tasks: int
    joins: int  # they have the places after the tasks
    places: list[int]  # (tasks + joins,), in order of evaluation
    first: list[int]  # place of a predecessor, or NOTHING
    second: list[int]
    by_priority: int  # a stream by priority that has tasks, or NOTHING

    def ends(self, durations_s: list[float]) -> list[float]:
        """When each task ends, seconds: (tasks,); raises FleetcastError where a stream is by priority."""
        self._check(durations_s)
        return self.longest_paths(durations_s)

    def times(self, durations_s: list[float]) -> Times:
        """Starts too, exact: a start is the latest end before it, not an end less a duration."""
        self._check(durations_s)
        padded = [*durations_s, *[0.0] * self.joins]
        ends = [0.0] * (len(padded) + 1)  # the last is where NOTHING points
        starts = [0.0] * len(padded)
        for place, one, other in zip(self.places, self.first, self.second, strict=True):
            earlier, later = ends[one], ends[other]
            start = starts[place] = later if later > earlier else earlier
            ends[place] = start + padded[place]
        return Times(starts[: self.tasks], ends[: self.tasks], max(ends))

    def longest_paths(self, durations_s: list[float]) -> list[float]:
        """Seconds to each task's end along what it must wait for; a stream by priority keeps nobody waiting."""
        ends = [0.0] * (self.tasks + self.joins + 1)
        padded = [*durations_s, *[0.0] * self.joins] if self.joins else durations_s
        for place, one, other in zip(self.places, self.first, self.second, strict=True):
            earlier, later = ends[one], ends[other]
            ends[place] = (later if later > earlier else earlier) + padded[place]
        del ends[self.tasks :]
        return ends

    def _check(self, durations_s: list[float]) -> None:
        if len(durations_s) != self.tasks:
            raise FleetcastError(
                f"{len(durations_s)} durations for a graph of {self.tasks} tasks; one a task is needed"
            )
        check_durations(durations_s)
        if self.by_priority != NOTHING:
            raise FleetcastError(f"stream {self.by_priority} chooses by priority: run the graph on the clock (execute)")


def compile_graph(graph: TaskGraph) -> Compiled:
    """Check a graph and order it; raises FleetcastError, also for a schedule whose tasks wait in a circle."""
    order = task_order(graph)
    before = stream_predecessors(graph)
    tasks = len(graph)
    places: list[int] = []
    first: list[int] = []
    second: list[int] = []
    joins = 0
    for task in order:
        others, one = graph.after[task], before[task]
        if not others:
            other = NOTHING
        elif len(others) == 1:
            other = others[0]
        else:
            rest = others if one == NOTHING else [*others, one]
            one, other = rest[0], rest[1]
            for more in rest[2:]:
                join = tasks + joins
                joins += 1
                places.append(join)
                first.append(one)
                second.append(other)
                one, other = join, more
        places.append(task)
        first.append(one)
        second.append(other)
    chosen = next((s for s in graph.stream if s >= 0 and graph.streams[s].by_priority), NOTHING)
    return Compiled(tasks, joins, places, first, second, chosen)


def task_order(graph: TaskGraph) -> list[int]:
    """Every task after those it waits for and, on a FIFO stream, after the one before it.

    Raises FleetcastError naming the tasks of a circle.
    """
    check_graph(graph)
    walk = _Walk(graph)
    if len(walk.order) < len(graph):
        raise FleetcastError(_circle(graph, walk))
    return walk.order


def stream_predecessors(graph: TaskGraph) -> list[int]:
    """The task before each on its FIFO stream, or NOTHING."""
    last = [NOTHING] * len(graph.streams)
    fifo = [not stream.by_priority for stream in graph.streams]
    before = [NOTHING] * len(graph)
    for task, stream in enumerate(graph.stream):
        if stream >= 0 and fifo[stream]:
            before[task] = last[stream]
            last[stream] = task
    return before


def programs(graph: TaskGraph) -> tuple[list[list[int]], list[int]]:
    """Tasks of each stream in the order added, and tasks of no stream."""
    by_stream: list[list[int]] = [[] for _ in graph.streams]
    loose = []
    for task, stream in enumerate(graph.stream):
        if stream >= 0:
            by_stream[stream].append(task)
        else:
            loose.append(task)
    return by_stream, loose


class _Walk:
    """Lanes, each a list of tasks in order, walked as far as they go: FIFO streams, and any other task alone."""

    def __init__(self, graph: TaskGraph) -> None:
        by_stream, loose = programs(graph)
        fifo = [lane for stream, lane in zip(graph.streams, by_stream, strict=True) if not stream.by_priority]
        free = [lane for stream, lane in zip(graph.streams, by_stream, strict=True) if stream.by_priority]
        self.order: list[int] = []
        self.at: dict[int, tuple[int, int]] = {}  # lane -> its task that waits, and what for
        lanes = [*fifo, *([task] for lane in free for task in lane), *([task] for task in loose)]
        self._done = bytearray(len(graph))
        self._waiting: dict[int, list[int]] = {}  # task -> lanes that wait for it
        self._ready: list[int] = []
        walks = [self._walk(graph.after, number, lane) for number, lane in enumerate(lanes)]
        for walk in walks:
            next(walk, None)
            while self._ready:
                next(walks[self._ready.pop()], None)

    def _walk(self, after: list[list[int]], number: int, lane: list[int]) -> Iterator[None]:
        order, done, waiting = self.order, self._done, self._waiting
        for task in lane:
            for other in after[task]:
                if not done[other]:
                    waiting.setdefault(other, []).append(number)
                    self.at[number] = (task, other)
                    yield
            order.append(task)
            done[task] = 1
            if task in waiting:
                self._ready += waiting.pop(task)
        self.at.pop(number, None)


def _circle(graph: TaskGraph, walk: _Walk) -> str:
    """Each task that waits in a circle, what it waits for, and which of the two comes first on the latter's stream."""
    stuck_on = {}  # a FIFO stream, or a task that no stream orders -> (its task that waits, what for)
    for task, other in walk.at.values():
        stuck_on[_lane(graph, task)] = (task, other)
    seen: dict[tuple[str, int], None] = {}
    lane = next(iter(stuck_on))
    while lane not in seen:
        seen[lane] = None
        lane = _lane(graph, stuck_on[lane][1])
    circle = list(seen)[list(seen).index(lane) :]
    parts = []
    for here in circle[:6]:
        task, other = stuck_on[here]
        reached = stuck_on[_lane(graph, other)][0]
        behind = "" if reached == other else f", which comes after {task_name(graph, reached)}"
        parts.append(f"{task_name(graph, task)} waits for {task_name(graph, other)}{behind}")
    more = f"; and {len(circle) - 6} more" if len(circle) > 6 else ""
    streams = dict.fromkeys(stream_name(graph, number) for what, number in circle if what == "stream")
    who = f" of {', '.join(list(streams)[:6])}" if streams else ""
    return f"the tasks{who} wait in a circle: {'; '.join(parts)}{more}; let one of them wait for less, or reorder it"


def _lane(graph: TaskGraph, task: int) -> tuple[str, int]:
    stream = graph.stream[task]
    return ("task", task) if stream < 0 or graph.streams[stream].by_priority else ("stream", stream)
