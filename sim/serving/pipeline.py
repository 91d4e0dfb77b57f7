"""A serving engine with pipeline parallelism on SimPy: one micro-batch a stage in flight, each with its own
sequences.

A micro-batch passes the stages one after another, each stage taking micro-batches in the order in which they entered;
stage times differ, and what a stage waits for is its bubble. Since the order never changes, the whole passage is
known on entry. The loop yields to the clock only where somebody else could act before its next event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any, cast

import simpy

from policies.serving import Batch, BatchScheduler
from sim.power.pipeline_pace import PipelinePace
from sim.serving.chunk_load import prompt_load
from sim.serving.engine import Engine
from sim.serving.inbox import NEVER, Inbox
from sim.serving.lane import Lane, Limits
from sim.serving.record import RequestLog, RunLog
from sim.serving.run import Run, slack_s


class PipelineReplica(Engine):
    """An engine whose layers are spread over stages."""

    def __init__(
        self,
        environment: simpy.Environment,
        number: int,
        scheduler: BatchScheduler,
        pace: PipelinePace,
        stages: int,
        transfer_s: Callable[[int], float],
        limits: Limits,
        inbox: Inbox,
        run_log: RunLog,
        request_log: RequestLog,
        exact: bool,
        next_arrival_s: Callable[[], float],
    ) -> None:
        super().__init__(number, scheduler, limits, stages, inbox, run_log, request_log)
        self._pace = pace
        self._transfer_s = transfer_s  # rows -> seconds from one stage to the next
        self._stage_free_s = [0.0] * stages
        self._ready: deque[Lane] = deque(self.lanes)  # lanes not in flight, longest waiting first
        self._flying: list[tuple[float, int, Run]] = []  # (end, lane, run), earliest end first
        self._exact = exact
        self._next_arrival_s = next_arrival_s  # of any request, wherever it will be routed
        self._env = environment
        self._arrival: simpy.Event | None = None
        self._sleeping = False  # until its own next event, which an arrival may forestall
        self._process = environment.process(self._serve())

    def _serve(self) -> Generator[simpy.Event, Any, None]:
        env = self._env
        while True:
            while self._flying and self._flying[0][0] <= self.now_s:
                _, number, run = heappop(self._flying)
                self.commit(self.lanes[number], run)
                self._ready.append(self.lanes[number])
            if self.inbox.due_s <= self.now_s:
                self.take_arrivals()
            blocked = self._stage_free_s[0] > self.now_s
            launched = not blocked and self._launch()
            next_s = self._flying[0][0] if self._flying else NEVER
            if self._ready and (blocked or launched):
                next_s = min(next_s, self._stage_free_s[0])
            next_s = min(next_s, self.inbox.next_s)
            if next_s == NEVER:
                self._arrival = env.event()
                self.now_s = yield self._arrival
            elif (wake_s := next_s + slack_s(next_s)) >= self._next_arrival_s() or self._exact:
                self._sleeping = True
                try:
                    yield env.timeout(max(0.0, wake_s - env.now))  # arrivals of this instant come first
                    self.now_s = next_s
                except simpy.Interrupt as arrival:
                    self.now_s = cast(float, arrival.cause)
                self._sleeping = False
            else:
                self.now_s = next_s

    def deliver(self, index: int, now_s: float) -> None:
        """Hand over a request at its arrival; a waiting micro-batch may take it at once."""
        if not self.receive(index):
            return
        if self._arrival is not None:
            self._arrival.succeed(now_s)
            self._arrival = None
        elif self._sleeping and self._ready and self._stage_free_s[0] <= now_s:
            self._sleeping = False  # one call is enough, however many arrive at this instant
            self._process.interrupt(now_s)

    def kv_blocks_in_use(self, now_s: float) -> int:
        """KV blocks taken, and those that queued requests will take."""
        return self.blocks.total - self.blocks.free + self.queued_blocks

    def prompt_s(self, tokens: int, before: int) -> float:
        """Seconds over all stages of a step that computes nothing but so many tokens of a prompt after so many."""
        pool = self.lanes[0].pool
        return sum(self._pace.price(prompt_load(pool.window, tokens, before), 0, 0, pool)[1])

    def _launch(self) -> bool:
        """Let the longest waiting micro-batch that has work enter the pipeline."""
        for lane in self._ready:
            batch, copy_s = self.decide(lane)
            if batch is not None:
                self._ready.remove(lane)
                self._enter(lane, batch, copy_s)
                return True
        return False

    def _enter(self, lane: Lane, batch: Batch, copy_s: float) -> None:
        decodes = lane.pool.count if batch.decode else 0
        padding = lane.padding_rows if decodes else 0
        lane.load.set(batch.chunks)
        if decodes and self._grows:
            self.blocks.take(lane.pool.blocks_over(1))
        transfer_s = self._transfer_s(lane.load.tokens + decodes + padding)
        if self.cache is not None:
            copy_s += self.cache.stall_s(0.0)
        at, exposed_s = self.now_s + copy_s, 0.0
        clock, seconds = self._pace.price(lane.load, decodes, padding, lane.pool)
        for stage, stage_s in enumerate(seconds):
            if stage:
                free_s = self._stage_free_s[stage]
                exposed_s += min(transfer_s, max(0.0, at + transfer_s - free_s))  # the stage has nothing else to do
                at = max(at + transfer_s, free_s)
            at += stage_s
            self._stage_free_s[stage] = at
        run = Run(batch, self.now_s, copy_s, at - self.now_s - copy_s, 0.0, 1, decodes, padding, exposed_s, clock)
        run.end_s = at
        heappush(self._flying, (at, lane.number, run))
