"""Runs a task graph on the clock: one process a stream, memory that is waited for, links that are shared."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

import simpy
from simpy.events import EventPriority

from policies.task_graph import TaskGraph
from sim.graph.execution import NOBODY, Execution
from sim.graph.order import task_order
from sim.graph.times import Times
from sim.network.fair_share import FairNetwork

LAST = EventPriority(3)  # priority of events after all others of an instant, those of the network (2) among them


def execute(graph: TaskGraph) -> Times:
    """Run a graph from time 0 until all its tasks have ended.

    Raises FleetcastError for a graph that is wrong or waits in a circle, DoesNotFitError where a budget lets nothing
    go on.
    """
    task_order(graph)  # no circle, whatever the memory
    run = _Run(graph)
    run.env.run()
    return run.times()


class _Last(simpy.Event):
    """Happens at once, but after all else at this instant."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, LAST)


class _Run(Execution):
    """An execution on SimPy's clock."""

    def __init__(self, graph: TaskGraph) -> None:
        super().__init__(graph)
        self.env = simpy.Environment()
        self._network = FairNetwork(self.env, graph.links)
        self._bells: list[simpy.Event | None] = [None] * len(graph.streams)
        for stream, program in enumerate(self.programs):
            if (ready := self.ready[stream]) is None:
                self.env.process(self._in_order(stream, program))
            else:
                self.env.process(self._by_priority(stream, ready, len(program)))
        self.start_loose(self.env.now)

    def _in_order(self, stream: int, program: list[int]) -> Generator[simpy.Event, Any, None]:
        """A stream that runs its tasks in the order in which they were added."""
        for task in program:
            if self.waits[task]:
                self._awaited[stream] = task
                yield self._sleep(stream)
            if task in self.pools.takes:
                while not self.seize(task, stream):
                    yield self._sleep(stream)
                self.start_loose(self.env.now)
            yield from self._one(task)

    def _by_priority(self, stream: int, ready: list[tuple[int, int]], tasks: int) -> Generator[simpy.Event, Any, None]:
        """A stream that runs, of the tasks that could start, the one of highest priority."""
        for _ in range(tasks):
            yield _Last(self.env)
            while (task := self.choose(stream, ready)) == NOBODY:
                yield self._sleep(stream)
                yield _Last(self.env)
            self.start_loose(self.env.now)
            yield from self._one(task)

    def _one(self, task: int) -> Generator[simpy.Event, Any, None]:
        """From a task's start to its end."""
        self.start_s[task] = self.env.now
        if (running := self._running(task)) is not None:
            yield running
        self.finish(task, self.env.now)
        self.start_loose(self.env.now)

    def _running(self, task: int) -> simpy.Event | None:
        """What happens when a task that starts now ends; None: it has."""
        if task in self.graph.transfer:
            return self._network.transfer(self.graph.transfer[task])
        duration_s = self.graph.duration_s[task]
        return self.env.timeout(duration_s) if duration_s else None

    def begin_loose(self, task: int, now_s: float) -> bool:
        """With an event of its own."""
        if (running := self._running(task)) is None:
            return False
        running.callbacks.append(partial(self._loose_ended, task))
        return True

    def _loose_ended(self, task: int, _: simpy.Event) -> None:
        self.finish(task, self.env.now)
        self.start_loose(self.env.now)

    def _sleep(self, stream: int) -> simpy.Event:
        bell = self._bells[stream] = simpy.Event(self.env)
        return bell

    def ring(self, stream: int) -> None:
        """By its bell."""
        bell = self._bells[stream]
        if bell is not None:
            self._bells[stream] = None
            bell.succeed()
