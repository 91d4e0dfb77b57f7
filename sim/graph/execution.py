"""What every execution of a task graph does, whatever keeps the time: who is ready, who takes memory, who is called.

Everything is decided in one order: events of an instant in the order in which they came about, streams by priority
after all others of the instant, ties in the order in which tasks were added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from heapq import heapify, heappop, heappush

from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph.order import programs
from sim.graph.pools import Pools
from sim.graph.stall import stalled
from sim.graph.times import Times

NOT_YET = -1.0
NOBODY = -1


class Execution(ABC):
    """One execution: tasks are counted down by those that they wait for; streams sleep until a bell rings."""

    def __init__(self, graph: TaskGraph) -> None:
        self.graph = graph
        self.pools = Pools(graph)
        self.left = tasks = len(graph)
        self.start_s, self.end_s = [NOT_YET] * tasks, [NOT_YET] * tasks
        self.waits = list(map(len, graph.after))  # how many ends a task still waits for
        self.programs, loose = programs(graph)
        self._followers: list[list[int]] = [[] for _ in range(tasks)]
        for task, others in enumerate(graph.after):
            for other in others:
                self._followers[other].append(task)
        self._awaited = [NOBODY] * len(graph.streams)  # the task for which a FIFO stream sleeps
        self.ready: list[list[tuple[int, int]] | None] = [[] if s.by_priority else None for s in graph.streams]
        for ready, program in zip(self.ready, self.programs, strict=True):
            if ready is not None:
                ready += [(-graph.priority[task], task) for task in program if not self.waits[task]]
                heapify(ready)
        self.loose = deque(task for task in loose if not self.waits[task])  # tasks of no stream to be started now

    def times(self) -> Times:
        """When each task ran; raises DoesNotFitError where a budget let nothing go on."""
        if self.left:
            raise stalled(self.graph, self.pools, self.waits, [end_s != NOT_YET for end_s in self.end_s])
        return Times(self.start_s, self.end_s, max(self.end_s, default=0.0))

    @abstractmethod
    def ring(self, stream: int) -> None:
        """Wake a stream, if it sleeps."""

    @abstractmethod
    def begin_loose(self, task: int, now_s: float) -> bool:
        """Let a task of no stream run; False: it takes no time and has ended."""

    def choose(self, stream: int, ready: list[tuple[int, int]]) -> int:
        """The first by priority whose memory is free; if there is none, the stream waits for the memory of all."""
        if ready and self._take(ready[0][1], stream):
            return heappop(ready)[1]
        if len(ready) > 1:
            for entry in sorted(ready)[1:]:
                if self._take(entry[1], stream):
                    ready.remove(entry)
                    heapify(ready)
                    return entry[1]
        self.pools.claim(stream, (task for _, task in sorted(ready)))
        return NOBODY

    def seize(self, task: int, claimant: int) -> bool:
        """Take a task's memory, or stand in line for it."""
        if self._take(task, claimant):
            return True
        self.pools.claim(claimant, (task,))
        return False

    def _take(self, task: int, claimant: int) -> bool:
        if task not in self.pools.takes and not self.pools.waits(claimant):
            return True
        if not self.pools.take(task, claimant):
            return False
        if self.pools.waits(claimant):
            self._call(self.pools.withdraw(claimant))
        return True

    def finish(self, task: int, now_s: float) -> None:
        """A task has ended: its memory is free, and tasks that waited for it alone are ready."""
        waits, stream = self.waits, self.graph.stream
        self.end_s[task] = now_s
        self.left -= 1
        if task in self.pools.gives and (claimants := self.pools.give(task)):
            self._call(claimants)
        for follower in self._followers[task]:
            left = waits[follower] = waits[follower] - 1
            if left:
                continue
            home = stream[follower]
            if home == NO_STREAM:
                self.loose.append(follower)
            elif (ready := self.ready[home]) is not None:
                heappush(ready, (-self.graph.priority[follower], follower))
                self.ring(home)
            elif self._awaited[home] == follower:
                self.ring(home)

    def start_loose(self, now_s: float) -> None:
        """Start tasks of no stream that are ready, and those that are made ready by ones of no duration."""
        while self.loose:
            task = self.loose.popleft()
            if self.start_s[task] != NOT_YET or not self.seize(task, len(self.programs) + task):
                continue
            self.start_s[task] = now_s
            if not self.begin_loose(task, now_s):
                self.finish(task, now_s)

    def _call(self, claimants: list[int]) -> None:
        """Let claimants try again to take memory."""
        streams = len(self.programs)
        for claimant in claimants:
            if claimant < streams:
                self.ring(claimant)
            else:
                self.loose.append(claimant - streams)
