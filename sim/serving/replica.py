"""A serving engine on SimPy: ask the scheduler for a batch, price it, let the time pass, commit its tokens.

Steps whose composition cannot change are one run and one event; an arrival that could join ends the run with the step
under way.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import simpy

from policies.serving import Batch, BatchScheduler
from sim.power.pace import Pace
from sim.serving.chunk_load import prompt_load
from sim.serving.decode_pool import DecodePool
from sim.serving.engine import Engine
from sim.serving.inbox import NEVER, Inbox
from sim.serving.lane import Lane, Limits
from sim.serving.record import RequestLog, RunLog
from sim.serving.run import Run, slack_s


@dataclass(frozen=True, slots=True)
class ClockChange:
    """Why a run is interrupted that no arrival ends."""

    now_s: float


class Replica(Engine):
    """An engine all of whose devices work on the same batch (tensor parallelism)."""

    def __init__(
        self,
        environment: simpy.Environment,
        number: int,
        scheduler: BatchScheduler,
        pace: Pace,
        limits: Limits,
        inbox: Inbox,
        run_log: RunLog,
        request_log: RequestLog,
        exact: bool,
    ) -> None:
        super().__init__(number, scheduler, limits, 1, inbox, run_log, request_log)
        self._lane: Lane = self.lanes[0]
        self._pace = pace
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
                except simpy.Interrupt as news:
                    if isinstance(news.cause, ClockChange):
                        run = self._run = self._at_new_clock(run, news.cause.now_s)
                    else:
                        run.cut(cast(float, news.cause))
            self._run = None
            self._end(run)

    def _end(self, run: Run) -> None:
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

    def set_clock(self, clock: float, now_s: float) -> None:
        """Lock the cores at a clock, a share of boost, from now on: what is left of a step under way runs at it."""
        self._pace.lock(clock)
        if self._run is not None:
            self._process.interrupt(ClockChange(now_s))

    def _at_new_clock(self, run: Run, now_s: float) -> Run:
        """The run under way, ended with the steps that are over; what is left of the next one is a run of its own."""
        lane, steps = self._lane, run.steps_until(now_s)
        if run.end_after(steps) <= now_s + slack_s(now_s):  # between two steps
            run.cut(now_s)
            return run
        if steps > 1:
            step_s = run.first_s + run.slope_s * (steps - 1)
            run.steps, run.end_s = steps - 1, run.end_after(steps - 1)
            self._end(run)
            lane.load.set(run.batch.chunks)
            run = Run(run.batch, run.end_s, 0.0, step_s, 0.0, 1, run.decodes, run.padding_rows, 0.0, run.clock)
        clock, seconds, _, _ = self._pace.price(lane.load, run.decodes, run.padding_rows, lane.pool)
        begun_s = run.start_s + run.copy_s
        if now_s <= begun_s:  # its KV blocks are still being copied, or its clock changes twice in an instant
            return Run(
                run.batch, run.start_s, run.copy_s, run.part * seconds, 0.0, 1, run.decodes, run.padding_rows, 0.0,
                clock, run.part, run.waited_s,
            )  # fmt: skip
        done = Run(
            run.batch, run.start_s, run.copy_s, now_s - begun_s, 0.0, 1, run.decodes, run.padding_rows, 0.0, run.clock
        )  # fmt: skip
        left = run.part * (run.first_end_s - now_s) / run.first_s
        self._runs.rows += self._row(lane, done, 0, run.part - left, *_contexts(lane.pool))
        return Run(
            run.batch, now_s, 0.0, left * seconds, 0.0, 1, run.decodes, run.padding_rows, 0.0, clock, left,
            run.waited_s + now_s - begun_s,
        )  # fmt: skip

    def progress(self, now_s: float) -> list[tuple[bytes, float]]:
        """What of the run under way is done: a row of the steps that are over, if any, and one with one more, and how
        much each counts.
        """
        run, pool = self._run, self._lane.pool
        if run is None or not run.start_s < now_s:
            return []
        steps = run.steps_until(now_s)
        before_s = run.end_after(steps - 1) if steps > 1 else run.start_s
        share = min(1.0, (now_s - before_s) / (run.end_after(steps) - before_s))
        weights = [(steps - 1, 1.0 - share)] if steps > 1 else []
        weights.append((steps, share))
        return [
            (self._row(self._lane, run, count, count * run.part, *_contexts(pool)), weight) for count, weight in weights
        ]

    def present(self, now_s: float) -> tuple[int, int, int]:
        """Requests that are here, in the middle of a run too; KV tokens that they hold once all prompts are computed;
        tokens of prompts that are still to be computed.
        """
        lane, run = self._lane, self._run
        waiting = [*self.waiting, *(one for one in self.inbox.untaken(now_s) if self._can_hold(one))]
        context, steps_over, tokens = lane.pool.context + sum(one.join_context for one in self.swapped), 0, 0
        if run is not None:
            steps_over = run.steps_until(now_s) - 1
            context += run.decodes * steps_over
            waiting += [sequence for sequence, _ in run.batch.chunks]
            tokens = steps_over * sum(new for _, new in run.batch.chunks)
        if lane.partial is not None and lane.partial not in waiting:
            waiting.append(lane.partial)
        queued = sum(one.to_prefill - one.prefilled for one in waiting) - tokens
        return (
            lane.pool.count + len(self.swapped) + len(waiting),
            context + sum(one.to_prefill for one in waiting),
            queued,
        )

    def kv_blocks_in_use(self, now_s: float) -> int:
        """KV blocks taken by now, in the middle of a run too, and those that queued requests will take."""
        used = self.blocks.total - self.blocks.free
        run = self._run
        if run is not None and run.decodes and self._grows:
            used += self._lane.pool.blocks_over(run.steps_until(now_s))
        return used + self.queued_blocks

    def prompt_s(self, tokens: int, before: int) -> float:
        """Seconds of a step that computes nothing but so many tokens of a prompt after so many."""
        load = prompt_load(self._lane.pool.window, tokens, before)
        return self._pace.price(load, 0, 0, self._lane.pool)[1]

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
        clock, first_s, slope_s, steps = self._pace.price(lane.load, decodes, padding, lane.pool)
        steps = self._steps(batch, decodes, steps)
        if self.cache is not None:
            copy_s += self.cache.stall_s(first_s)
        if steps > 1:
            steps = self._pace.steady(steps, slope_s, lane.load, decodes, padding, lane.pool)
        run = Run(batch, self.now_s, copy_s, first_s, slope_s, steps, decodes, padding, 0.0, clock)
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


def _contexts(pool: DecodePool) -> tuple[int, int, int]:
    """KV tokens of all members, the same within the sliding window, and how many members still fill it."""
    return pool.context, pool.window_context, pool.window_growth
