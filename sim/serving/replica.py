"""A serving engine on SimPy: ask the scheduler for a batch, price it, let the time pass, commit its tokens.

Steps whose composition cannot change are one run and one event; an arrival that could join ends the run with the step
under way.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

import simpy

from policies.serving import Batch, BatchScheduler
from sim.serving.engine import Engine, Lane, Limits
from sim.serving.inbox import NEVER, Inbox
from sim.serving.record import RequestLog, RunLog
from sim.serving.run import Run, slack_s
from sim.serving.step_cost import StageCost


class Replica(Engine):
    """An engine all of whose devices work on the same batch (tensor parallelism)."""

    def __init__(
        self,
        environment: simpy.Environment,
        number: int,
        scheduler: BatchScheduler,
        cost: StageCost,
        limits: Limits,
        inbox: Inbox,
        run_log: RunLog,
        request_log: RequestLog,
        exact: bool,
    ) -> None:
        super().__init__(number, scheduler, limits, 1, inbox, run_log, request_log)
        self._lane: Lane = self.lanes[0]
        self._cost = cost
        self._exact = exact
        self._run: Run | None = None
        self._env = environment
        self._arrival: simpy.Event | None = None  # what an idle engine waits for
        self._process = environment.process(self._serve())

    def _serve(self) -> Generator[simpy.Event, Any, None]:
        env = self._env
        while True:
            if self.inbox.due_s <= self.now_s:
                self.take_arrivals()
            run = self._next_run()
            if run is None:
                yield from self._idle()
                continue
            self._run = run
            while True:
                try:
                    delay = run.end_s + slack_s(run.end_s) - env.now  # arrivals of this instant come first
                    yield env.timeout(delay if delay > 0.0 else 0.0)
                    break
                except simpy.Interrupt as arrival:
                    run.cut(cast(float, arrival.cause))
            self._run = None
            self.now_s = run.end_s
            if run.decodes and self._grows:
                self.blocks.take(self._lane.pool.blocks_over(run.steps))
            self.commit(self._lane, run)

    def _idle(self) -> Generator[simpy.Event, Any, None]:
        """Wait for the next arrival."""
        if self.inbox.next_s < NEVER:
            self.now_s = self.inbox.next_s
            yield self._env.timeout(max(0.0, self.now_s - self._env.now))
        else:
            self._arrival = self._env.event()
            self.now_s = yield self._arrival

    def deliver(self, index: int, now_s: float) -> None:
        """Hand over a request at its arrival; wakes an idle engine and ends a run that the newcomer could change."""
        if not self.receive(index):
            return
        run = self._run
        if self._arrival is not None:
            self._arrival.succeed(now_s)
            self._arrival = None
        elif run is not None and run.steps > 1 and run.end_s > now_s and self._could_join(run.batch):
            self._process.interrupt(now_s)

    def kv_blocks_in_use(self, now_s: float) -> int:
        """KV blocks taken by now, in the middle of a run too, and those that queued requests will take."""
        used = self.blocks.total - self.blocks.free
        run = self._run
        if run is not None and run.decodes and self._grows:
            used += self._lane.pool.blocks_over(run.steps_until(now_s))
        return used + self.queued_blocks

    def _could_join(self, batch: Batch) -> bool:
        return self._scheduler.newcomer_could_join(self._lane.view, batch)

    def _next_run(self) -> Run | None:
        lane = self._lane
        batch, copy_s = self.decide(lane)
        if batch is None:
            return None
        decodes = lane.pool.count if batch.decode else 0
        padding = lane.padding_rows if decodes else 0
        lane.load.set(batch.chunks)
        first_s, slope_s, steps = self._cost.price(lane.load, decodes, padding, lane.pool)
        run = Run(batch, self.now_s, copy_s, first_s, slope_s, self._steps(batch, decodes, steps), decodes, padding)
        if run.steps > 1 and self.inbox.next_s < run.end_s and self._could_join(batch):
            run.cut(self.inbox.next_s)
        return run

    def _steps(self, batch: Batch, decodes: int, steps: int) -> int:
        """How often a batch may repeat: until a finish, a memory shortage, or a change of the cost's slope."""
        if self._exact:
            return 1
        steps = min(steps, batch.repeats)
        if decodes and steps > 1:
            pool = self._lane.pool
            left = pool.steps_to_finish()
            steps = min(steps, left)
            if pool.window:
                steps = min(steps, pool.steps_to_window())
            if self._grows:
                steps = pool.steps_within(self.blocks.free, steps)
        return steps
