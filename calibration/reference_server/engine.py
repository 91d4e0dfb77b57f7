"""The simulator's engine with a real clock: its decisions and bookkeeping, each step executed instead of priced."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.reference_server.batch import StepWork
from calibration.reference_server.executor import StepOutcome
from calibration.reference_server.seats import Seats
from policies.serving import Batch, BatchScheduler
from policies.serving import Sequence as Request
from sim.serving.engine import Engine
from sim.serving.inbox import NEVER, Inbox, RequestColumns
from sim.serving.lane import Lane, Limits
from sim.serving.record import RequestLog, RunLog
from sim.serving.run import Run
from workloads.request import RequestTable

SPIN_S = 5e-4  # the last stretch before an arrival is waited for without sleeping
REPORT_S = 5.0  # between two lines of progress


class Runs(Protocol):
    """What executes steps."""

    def run(self, work: StepWork) -> StepOutcome:
        """One step."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One executed step; counts as the simulator's run log has them."""

    start_s: float
    duration_s: float  # from the end of the step before (or an idle engine's wake-up) to this one's last token
    prefill_tokens: int
    chunks: int
    pairs: int  # (query, key) pairs of the chunks
    chunk_context: int  # KV tokens the chunks read
    decode_seqs: int
    context_tokens: int  # KV tokens the decodes read
    graph_rows: int  # rows of the CUDA graph; 0: no graph
    host_s: float  # of duration_s, before the first kernel was launched
    device_s: float  # from the first kernel to the end of the last
    kv_blocks: int  # in use after the step
    waiting: int


class ReferenceEngine(Engine):
    """Plays a request table in real time on an executor."""

    def __init__(
        self,
        scheduler: BatchScheduler,
        limits: Limits,
        requests: RequestTable,
        prompts: Callable[[int], NDArray[np.int32]],  # request index -> its tokens
        seats: Seats,
        executor: Runs,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        inbox = Inbox(RequestColumns(requests), range(len(requests)))
        self.requests = RequestLog(requests)
        super().__init__(0, scheduler, limits, 1, inbox, RunLog(), self.requests)
        self.outputs: dict[int, NDArray[np.int32]] = {}  # request index -> tokens generated, when finished
        self.steps: list[StepRecord] = []
        self._prompts, self._seats, self._executor = prompts, seats, executor
        self._clock, self._sleep = clock, sleep
        self._known: dict[int, NDArray[np.int32]] = {}  # tokens of preempted requests
        self._seated: dict[int, Request] = {}
        self._started_at = 0.0

    # -- the clock -------------------------------------------------------------------------------------------------

    def play(
        self, budget_s: float | None = None, drain_s: float = NEVER, report: Callable[[str], None] = lambda _: None
    ) -> float:
        """Serve until all is done; returns the seconds it took.

        After `budget_s` nobody new is admitted, after another `drain_s` what still runs is cut off.
        """
        lane, open_, next_report_s = self.lanes[0], True, REPORT_S
        stop_s = NEVER if budget_s is None else budget_s + drain_s
        self._started_at = self._clock()
        step_start_s = 0.0
        while (now_s := self._now_s()) < stop_s:
            self.now_s = now_s
            if open_ and budget_s is not None and now_s >= budget_s:
                open_ = False
                self._turn_away()
            if open_:
                self.take_arrivals()
            batch, _ = self.decide(lane)
            if batch is None:
                if not open_ or self.inbox.next_s == NEVER:
                    break
                self._sleep_until(min(self.inbox.next_s, NEVER if budget_s is None else budget_s))
                step_start_s = self._now_s()
                continue
            step_start_s = self._step(lane, batch, step_start_s)
            if now_s >= next_report_s:
                next_report_s = now_s + REPORT_S
                report(self._progress())
        self._cut_off()
        return self._now_s()

    def _now_s(self) -> float:
        return self._clock() - self._started_at

    def _sleep_until(self, time_s: float) -> None:
        while (left_s := time_s - self._now_s()) > 0.0:
            if left_s > SPIN_S:
                self._sleep(left_s - SPIN_S)

    def _progress(self) -> str:
        total, running = len(self.requests.requests), self.lanes[0].pool.count
        return (
            f"t = {self.now_s:.0f} s: {self.requests.finished} of {total} requests done, {running} decoding,"
            f" {len(self.waiting)} waiting, {len(self.steps)} steps"
        )

    # -- one step --------------------------------------------------------------------------------------------------

    def _step(self, lane: Lane, batch: Batch, start_s: float) -> float:
        pool = lane.pool
        decoding = list(pool.members) if batch.decode else []
        lane.load.set(batch.chunks)
        if decoding:
            self.blocks.take(pool.blocks_over(1))
        work = self._seats.work([(sequence.index, new) for sequence, new in batch.chunks], decoding)
        outcome = self._executor.run(work)
        self._seats.take(work, outcome.sampled)
        for number, (sequence, new) in enumerate(batch.chunks):
            if sequence.prefilled + new == sequence.to_prefill:
                self._seats.append(sequence.index, sequence.to_prefill, int(outcome.sampled[number]))
        end_s = self._now_s()
        load = lane.load
        counts = load.tokens, load.chunks, load.pairs, load.context, len(decoding), int(work.decode_lengths.sum())
        self.commit(lane, Run(batch, start_s, 0.0, end_s - start_s, 0.0, 1, len(decoding), 0))
        used = self.blocks.total - self.blocks.free
        if used != self._seats.blocks_in_use:
            raise AssertionError(f"{self._seats.blocks_in_use} KV blocks held, {used} accounted for")
        host_s = outcome.launched_at - self._started_at - start_s
        self.steps.append(
            StepRecord(
                start_s, end_s - start_s, *counts, outcome.graph_rows, host_s, outcome.device_s, used, len(self.waiting)
            )
        )
        return end_s

    # -- who holds memory ------------------------------------------------------------------------------------------

    def _admit(self, sequence: Request) -> None:
        super()._admit(sequence)
        index = sequence.index
        tokens = self._known.pop(index, None)
        self._seats.open(index, self._prompts(index) if tokens is None else tokens, sequence.blocks)
        self._seated[index] = sequence

    def _preempt(self, lane: Lane, victims: Sequence[Request]) -> float:
        copied_s = super()._preempt(lane, victims)
        for sequence in victims:
            self._known[sequence.index] = self._seats.close(sequence.index, sequence.to_prefill)
            del self._seated[sequence.index]
        return copied_s

    def _finish(self, lane: Lane, sequence: Request, held_tokens: int, end_s: float) -> None:
        super()._finish(lane, sequence, held_tokens, end_s)
        tokens = self._seats.close(sequence.index, sequence.prompt_tokens + sequence.output_tokens)
        self.outputs[sequence.index] = tokens[sequence.prompt_tokens :]
        del self._seated[sequence.index]

    def _turn_away(self) -> None:
        """Drop whom nobody has started on; preempted sequences stay."""
        started = [sequence for sequence in self.waiting if sequence.first_scheduled_s >= 0.0]
        while self.waiting:
            self.waiting.pop()
        for sequence in started:
            self.waiting.push(sequence)

    def _cut_off(self) -> None:
        """Note what is known of requests that did not finish, and free their memory."""
        unfinished = [*self._seated.values(), *(s for s in self.waiting if s.index in self._known)]
        for sequence in unfinished:
            log, index = self.requests, sequence.index
            log.first_scheduled_s[index] = sequence.first_scheduled_s
            log.preemptions[index] = sequence.preemptions
            if sequence.generated:
                log.first_token_s[index] = sequence.first_token_s
            log.replica[index] = self.number
        for index in list(self._seated):
            self._seats.close(index, 0)
            del self._seated[index]
