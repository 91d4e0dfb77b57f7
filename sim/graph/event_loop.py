"""Runs a task graph as `execute` does, event by event in the same order, on a bare heap: the same times, sooner.

What happens at an instant waits in three lines, for SimPy's three priorities: events of tasks, those of links after
them, and streams by priority last; the heap holds what is still to come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Any

from policies.task_graph import TaskGraph
from sim.graph.checks import check_graph
from sim.graph.execution import NOBODY, Execution
from sim.graph.order import task_order
from sim.graph.times import Times
from sim.network.shared_links import SharedLinks

SOON, AT_END = 1, 2  # in what order events of an instant happen


def execute_quickly(graph: TaskGraph) -> Times:
    """The times of `execute`, whose errors it raises."""
    check_graph(graph)
    run = _Loop(graph)
    run.run()
    if run.left:
        task_order(graph)  # a circle is the better word for it
    return run.times()


class _Loop(Execution):
    """An execution whose streams are a few numbers each, not processes."""

    def __init__(self, graph: TaskGraph) -> None:
        super().__init__(graph)
        streams = len(graph.streams)
        self._now_s = 0.0
        self._soon: deque[tuple[Callable[[int], None], int]] = deque()
        self._at_end: deque[Callable[[float], None]] = deque()
        self._last: deque[int] = deque()  # streams by priority whose turn it is to choose
        self._later: list[tuple[float, int, int, Callable[[Any], None], int]] = []  # time, turn, number, call, whose
        self._number = 0
        self._network = SharedLinks(graph.links, self._schedule_at_end)
        self._transfers = 0
        self._asleep = [False] * streams
        self._place = [0] * streams  # tasks of each stream that have started
        self._running = [NOBODY] * streams
        for stream, program in enumerate(self.programs):
            if program:
                self._soon.append((self._go_on, stream))
        self.start_loose(self._now_s)

    def run(self) -> None:
        """Until nothing happens any more."""
        soon, at_end, last, later = self._soon, self._at_end, self._last, self._later
        while True:
            if soon:
                call, whose = soon.popleft()
                call(whose)
            elif at_end:
                at_end.popleft()(self._now_s)
            elif last:
                self._choose_next(last.popleft())
            elif later:
                now_s = self._now_s = later[0][0]
                while later and later[0][0] == now_s:
                    _, turn, _, what, whose = heappop(later)
                    if turn == SOON:
                        soon.append((what, whose))
                    else:
                        at_end.append(what)
            else:
                return

    def _schedule(self, delay_s: float, call: Callable[[int], None], whose: int) -> None:
        at_s = self._now_s + delay_s
        if at_s == self._now_s:
            self._soon.append((call, whose))
        else:
            self._number += 1
            heappush(self._later, (at_s, SOON, self._number, call, whose))

    def _schedule_at_end(self, delay_s: float, call: Callable[[float], None]) -> None:
        at_s = self._now_s + delay_s
        if at_s == self._now_s:
            self._at_end.append(call)
        else:
            self._number += 1
            heappush(self._later, (at_s, AT_END, self._number, call, 0))

    def ring(self, stream: int) -> None:
        """It goes on behind what happens at this instant already."""
        if self._asleep[stream]:
            self._asleep[stream] = False
            self._soon.append((self._go_on, stream))

    def _go_on(self, stream: int) -> None:
        """A stream's next task, and those behind it that take no time."""
        if self.ready[stream] is not None:
            self._last.append(stream)
            return
        program, waits, takes = self.programs[stream], self.waits, self.pools.takes
        for place in range(self._place[stream], len(program)):
            task = program[place]
            if waits[task]:
                self._awaited[stream] = task
                self._asleep[stream] = True
                return
            if task in takes:
                if not self.seize(task, stream):
                    self._asleep[stream] = True
                    return
                if self.loose:
                    self.start_loose(self._now_s)
            self._place[stream] = place + 1
            if self._begin(stream, task):
                return

    def _choose_next(self, stream: int) -> None:
        """A stream by priority takes one of those that could start."""
        task = self.choose(stream, self.ready[stream] or [])
        if task == NOBODY:
            self._asleep[stream] = True
            return
        if self.loose:
            self.start_loose(self._now_s)
        self._place[stream] += 1
        if not self._begin(stream, task) and self._place[stream] < len(self.programs[stream]):
            self._last.append(stream)

    def _begin(self, stream: int, task: int) -> bool:
        """Start a task; False: it takes no time and has ended."""
        self.start_s[task] = self._now_s
        self._running[stream] = task
        if self._run_for(task, self._ended, stream):
            return True
        self.finish(task, self._now_s)
        if self.loose:
            self.start_loose(self._now_s)
        return False

    def _ended(self, stream: int) -> None:
        self.finish(self._running[stream], self._now_s)
        if self.loose:
            self.start_loose(self._now_s)
        if self._place[stream] < len(self.programs[stream]):
            self._go_on(stream)

    def begin_loose(self, task: int, now_s: float) -> bool:
        """With an event of its own."""
        return self._run_for(task, self._loose_ended, task)

    def _loose_ended(self, task: int) -> None:
        self.finish(task, self._now_s)
        self.start_loose(self._now_s)

    def _run_for(self, task: int, ended: Callable[[int], None], whose: int) -> bool:
        """Have a task that starts now end in time; False: it takes none."""
        transfer = self.graph.transfer.get(task)
        if transfer is None:
            duration_s = self.graph.duration_s[task]
            if duration_s:
                self._schedule(duration_s, ended, whose)
            return duration_s > 0.0
        number = self._transfers = self._transfers + 1
        done = partial(self._soon.append, (ended, whose))
        way, size_bytes = self._network.way(number, transfer.links), transfer.size_bytes
        if transfer.latency_s > 0.0:
            self._schedule(
                transfer.latency_s, lambda _: self._network.start(self._now_s, number, way, size_bytes, done), 0
            )
        else:
            self._network.start(self._now_s, number, way, size_bytes, done)
        return True
