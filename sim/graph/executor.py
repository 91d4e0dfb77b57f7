"""Runs a task graph on the clock: one process a stream, memory that is waited for, links that are shared.

Everything is decided in one order: events of an instant in the order in which they came about, streams by priority
after all others of the instant, ties in the order in which tasks were added.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any

import simpy
from simpy.events import EventPriority

from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph.order import programs, task_order
from sim.graph.pools import Pools
from sim.graph.stall import stalled
from sim.graph.times import Times
from sim.network.fair_share import FairNetwork

NOT_YET = -1.0
NOBODY = -1
LAST = EventPriority(3)  # priority of events after all others of an instant, those of the network (2) among them


def execute(graph: TaskGraph) -> Times:
    """Run a graph from time 0 until all its tasks have ended.

    Raises FleetcastError for a graph that is wrong or waits in a circle, DoesNotFitError where a budget lets nothing
    go on.
    """
    task_order(graph)  # no circle, whatever the memory
    run = _Run(graph)
    run.env.run()
    if run.left:
        raise stalled(graph, run.pools, run.waits, [end_s != NOT_YET for end_s in run.end_s])
    return Times(run.start_s, run.end_s, max(run.end_s, default=0.0))


class _Last(simpy.Event):
    """Happens at once, but after all else at this instant."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, LAST)


class _Run:
    """One execution: tasks are counted down by those that they wait for; streams sleep until a bell rings."""

    def __init__(self, graph: TaskGraph) -> None:
        self.env = simpy.Environment()
        self.pools = Pools(graph)
        self.left = tasks = len(graph)
        self.start_s, self.end_s = [NOT_YET] * tasks, [NOT_YET] * tasks
        self.waits = list(map(len, graph.after))  # how many ends a task still waits for
        self._graph = graph
        self._network = FairNetwork(self.env, graph.links)
        self._followers: list[list[int]] = [[] for _ in range(tasks)]
        for task, others in enumerate(graph.after):
            for other in others:
                self._followers[other].append(task)
        streams = len(graph.streams)
        self._bells: list[simpy.Event | None] = [None] * streams
        self._awaited = [NOBODY] * streams  # the task for which a FIFO stream sleeps
        self._ready: list[list[tuple[int, int]] | None] = [[] if s.by_priority else None for s in graph.streams]
        self._loose: deque[int] = deque()  # tasks of no stream to be started now
        by_stream, loose = programs(graph)
        for stream, program in enumerate(by_stream):
            if (ready := self._ready[stream]) is None:
                self.env.process(self._in_order(stream, program))
            else:
                for task in program:
                    if not self.waits[task]:
                        heappush(ready, (-graph.priority[task], task))
                self.env.process(self._by_priority(stream, ready, len(program)))
        self._loose.extend(task for task in loose if not self.waits[task])
        self._start_loose()

    def _in_order(self, stream: int, program: list[int]) -> Generator[simpy.Event, Any, None]:
        """A stream that runs its tasks in the order in which they were added."""
        env, waits, takes, transfers = self.env, self.waits, self.pools.takes, self._graph.transfer
        start_s, duration_s = self.start_s, self._graph.duration_s
        for task in program:
            if waits[task]:
                self._awaited[stream] = task
                yield self._sleep(stream)
            if task in takes:
                while not self._seize(task, stream):
                    yield self._sleep(stream)
                if self._loose:
                    self._start_loose()
            start_s[task] = env.now
            if task in transfers:
                yield self._flow(task)
            elif duration_s[task]:
                yield env.timeout(duration_s[task])
            self._finish(task)
            if self._loose:
                self._start_loose()

    def _by_priority(self, stream: int, ready: list[tuple[int, int]], tasks: int) -> Generator[simpy.Event, Any, None]:
        """A stream that runs, of the tasks that could start, the one of highest priority."""
        env, transfers, duration_s = self.env, self._graph.transfer, self._graph.duration_s
        for _ in range(tasks):
            yield _Last(env)
            while (task := self._choose(stream, ready)) == NOBODY:
                yield self._sleep(stream)
                yield _Last(env)
            if self._loose:
                self._start_loose()
            self.start_s[task] = env.now
            if task in transfers:
                yield self._flow(task)
            elif duration_s[task]:
                yield env.timeout(duration_s[task])
            self._finish(task)
            if self._loose:
                self._start_loose()

    def _choose(self, stream: int, ready: list[tuple[int, int]]) -> int:
        """The first by priority whose memory is free; if there is none, the stream waits for the memory of all."""
        if ready and self._take(ready[0][1], stream):
            return heappop(ready)[1]
        for entry in sorted(ready)[1:]:
            if self._take(entry[1], stream):
                ready.remove(entry)
                heapify(ready)
                return entry[1]
        self.pools.claim(stream, (task for _, task in sorted(ready)))
        return NOBODY

    def _seize(self, task: int, claimant: int) -> bool:
        """Take a task's memory, or stand in line for it."""
        if self._take(task, claimant):
            return True
        self.pools.claim(claimant, (task,))
        return False

    def _take(self, task: int, claimant: int) -> bool:
        if not self.pools.take(task, claimant):
            return False
        if self.pools.waits(claimant):
            self._call(self.pools.withdraw(claimant))
        return True

    def _finish(self, task: int) -> None:
        """A task has ended: its memory is free, and tasks that waited for it alone are ready."""
        waits, stream = self.waits, self._graph.stream
        self.end_s[task] = self.env.now
        self.left -= 1
        if task in self.pools.gives:
            self._call(self.pools.give(task))
        for follower in self._followers[task]:
            waits[follower] -= 1
            if waits[follower]:
                continue
            home = stream[follower]
            if home == NO_STREAM:
                self._loose.append(follower)
            elif (ready := self._ready[home]) is not None:
                heappush(ready, (-self._graph.priority[follower], follower))
                self._ring(home)
            elif self._awaited[home] == follower:
                self._ring(home)

    def _start_loose(self) -> None:
        """Start tasks of no stream that are ready, and those that are made ready by ones of no duration."""
        while self._loose:
            task = self._loose.popleft()
            if self.start_s[task] != NOT_YET or not self._seize(task, len(self._bells) + task):
                continue
            self.start_s[task] = self.env.now
            if task in self._graph.transfer:
                ended = self._flow(task)
            elif duration_s := self._graph.duration_s[task]:
                ended = self.env.timeout(duration_s)
            else:
                self._finish(task)
                continue
            ended.callbacks.append(partial(self._loose_ended, task))

    def _loose_ended(self, task: int, _: simpy.Event) -> None:
        self._finish(task)
        self._start_loose()

    def _flow(self, task: int) -> simpy.Event:
        return self._network.transfer(self._graph.transfer[task])

    def _sleep(self, stream: int) -> simpy.Event:
        bell = self._bells[stream] = simpy.Event(self.env)
        return bell

    def _ring(self, stream: int) -> None:
        bell = self._bells[stream]
        if bell is not None:
            self._bells[stream] = None
            bell.succeed()

    def _call(self, claimants: list[int]) -> None:
        """Let claimants try again to take memory."""
        for claimant in claimants:
            if claimant < len(self._bells):
                self._ring(claimant)
            else:
                self._loose.append(claimant - len(self._bells))
