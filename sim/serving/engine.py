"""The state of a serving engine and what every batch does to it; when that happens is the business of the loops above
it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import chain

from policies.serving import Batch, BatchScheduler, Sequence, StepView, blocks_for
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.inbox import Inbox
from sim.serving.kv_blocks import KvBlocks
from sim.serving.record import RequestLog, RunLog, pack_run
from sim.serving.run import Run


@dataclass(slots=True)
class Limits:
    """What an engine was given: KV blocks in device and in host memory, and how long a block takes to copy between
    them.
    """

    kv_blocks: int
    block_size: int  # tokens
    swap_blocks: int
    swap_block_s: float
    window: int  # sliding attention window, tokens; 0: none


class Lane:
    """Sequences that are batched together: all of an engine's, or with pipeline parallelism one micro-batch's."""

    __slots__ = ("held_blocks", "load", "number", "padding_rows", "partial", "pool", "view")

    def __init__(self, number: int, limits: Limits, engine: Engine) -> None:
        self.number = number
        self.pool = DecodePool(limits.block_size, limits.window)
        self.partial: Sequence | None = None
        self.load = ChunkLoad(limits.window)
        self.held_blocks = 0  # of finished sequences whose batch is not over
        self.padding_rows = 0  # such sequences: their rows are still computed
        self.view = StepView(
            0.0, engine.waiting, engine.swapped, self.pool.members.values(), 0, None, 0, limits.kv_blocks,
            limits.block_size, 0,
        )  # fmt: skip


class Engine:
    """Queue, KV blocks and lanes of one replica; subclasses run the clock."""

    def __init__(
        self,
        number: int,
        scheduler: BatchScheduler,
        limits: Limits,
        lanes: int,
        inbox: Inbox,
        run_log: RunLog,
        request_log: RequestLog,
    ) -> None:
        self.number = number
        self.inbox = inbox
        self.blocks = KvBlocks(limits.kv_blocks, limits.block_size)
        self.waiting = scheduler.new_queue()
        self.swapped: deque[Sequence] = deque()
        self.swap_blocks_free = limits.swap_blocks
        self.now_s = 0.0
        self.lanes = [Lane(i, limits, self) for i in range(lanes)]
        self._scheduler = scheduler
        self._grows = scheduler.grows_by_block
        self._swap_block_s = limits.swap_block_s
        self._runs = run_log
        self._requests = request_log

    # -- deciding --------------------------------------------------------------------------------------------------

    def take_arrivals(self) -> None:
        """Queue everything that has arrived; what could never fit is turned away."""
        for sequence in self.inbox.take(self.now_s):
            if self._can_hold(sequence):
                self.inbox.outstanding += self.inbox.counts_on_take
                self.waiting.push(sequence)
            else:
                self._requests.rejected.append(sequence.index)

    def receive(self, index: int) -> bool:
        """Put an arrival into the inbox; False where it could never fit: turned away at once, unseen by routers."""
        if self._can_hold(self.inbox.sequence(index)):
            self.inbox.put(index)
            return True
        self._requests.rejected.append(index)
        return False

    def _can_hold(self, sequence: Sequence) -> bool:
        size, limit = self.blocks.block_size, self._scheduler.max_model_len
        longest = sequence.prompt_tokens + sequence.output_tokens
        need = max(blocks_for(longest - 1, size), self._scheduler.blocks_at_admission(sequence, size))
        return need <= self.blocks.total and not (limit and longest > limit)

    def decide(self, lane: Lane) -> tuple[Batch | None, float]:
        """A lane's next batch with its admissions and preemptions done, and the seconds of copying KV blocks for it."""
        view, pool, copy_s = lane.view, lane.pool, 0.0
        while True:
            view.now_s = self.now_s
            view.num_running = pool.count
            view.partial = lane.partial
            view.free_blocks = self.blocks.free
            if self._grows:
                view.decode_blocks_needed = pool.blocks_due[pool.step % pool.block_size]
            view.decode_step = pool.step
            view.swap_blocks_free = self.swap_blocks_free
            batch = self._scheduler.next_batch(view)
            if batch is None:
                return None, copy_s
            if batch.preempt:
                copy_s += self._preempt(lane, batch.preempt)
            if batch.resume:
                copy_s += self._resume(lane, batch.resume)
            for _ in range(batch.admit):
                self._admit(self.waiting.pop())
            if batch.chunks or pool.count:
                return batch, copy_s
            # everyone was put off: decide again, with their memory free

    # -- memory ----------------------------------------------------------------------------------------------------

    def _admit(self, sequence: Sequence) -> None:
        if sequence.first_scheduled_s < 0.0:
            sequence.first_scheduled_s = self.now_s
        sequence.blocks = self._scheduler.blocks_at_admission(sequence, self.blocks.block_size)
        self.blocks.take(sequence.blocks)

    def _preempt(self, lane: Lane, victims: Seq[Sequence]) -> float:
        copied = 0
        for sequence in victims:
            sequence.preemptions += 1
            if sequence is lane.partial:
                lane.partial = None
                self.blocks.give(sequence.blocks)
            else:
                context = lane.pool.leave(sequence)
                held = blocks_for(context, self.blocks.block_size)
                self.blocks.give(held)
                if self._scheduler.preemption == "swap" and held <= self.swap_blocks_free:
                    sequence.join_context = context
                    sequence.blocks = blocks_for(context + 1, self.blocks.block_size)
                    self.swap_blocks_free -= held
                    self.swapped.appendleft(sequence)
                    copied += held
                    continue
            sequence.to_prefill = sequence.prompt_tokens + sequence.generated
            sequence.prefilled = 0
            self.waiting.push_back(sequence)
        return copied * self._swap_block_s

    def _resume(self, lane: Lane, count: int) -> float:
        copied = 0
        for _ in range(count):
            sequence = self.swapped.popleft()
            held = blocks_for(sequence.join_context, self.blocks.block_size)
            self.blocks.take(held)
            self.swap_blocks_free += held
            lane.pool.join(sequence, sequence.join_context)
            copied += held
        return copied * self._swap_block_s

    # -- committing ------------------------------------------------------------------------------------------------

    def commit(self, lane: Lane, run: Run) -> None:
        """A run is over: its tokens are out, its finished sequences leave."""
        batch, pool, steps, end_s = run.batch, lane.pool, run.steps, run.end_s
        gap_s, gap_seqs, decodes = 0.0, 0, run.decodes
        context, window_context, growing = pool.context, pool.window_context, pool.window_growth
        if decodes:
            first_end_s = run.first_end_s
            last_step_s = run.first_s + run.slope_s * (steps - 1)
            gap_s, gap_seqs, joiners = pool.advance(steps, first_end_s, end_s, last_step_s)
            for sequence in joiners:
                self._runs.joiner_gaps.append(first_end_s - sequence.last_token_s)
        load = lane.load
        self._runs.rows += pack_run(
            self.number, lane.number, run.start_s, run.first_s, run.slope_s, steps, load.tokens, load.chunks,
            load.pairs,
            load.context, decodes, run.padding_rows, context + decodes, window_context + growing, growing,
            load.window_pairs, load.window_context, run.copy_s, gap_s, gap_seqs, self.blocks.total - self.blocks.free,
            len(self.waiting), batch.waits_for_kv,
        )  # fmt: skip
        if decodes and pool.steps_to_finish() <= 0:
            for sequence, held in pool.pop_finished():
                self._finish(lane, sequence, held, end_s)
        if batch.chunks:
            self._commit_chunks(lane, batch, steps, end_s)
        if lane.held_blocks and not pool.count:  # a request-level batch is over
            self.blocks.give(lane.held_blocks)
            lane.held_blocks = lane.padding_rows = 0

    def _commit_chunks(self, lane: Lane, batch: Batch, steps: int, end_s: float) -> None:
        lane.partial = None
        for sequence, tokens in batch.chunks:
            sequence.prefilled += tokens * steps
            if sequence.prefilled < sequence.to_prefill:
                lane.partial = sequence
                continue
            if sequence.generated == 0:
                sequence.first_token_s = end_s
            else:  # recomputed after a preemption: its user waited since its last token
                gap = end_s - sequence.last_token_s
                sequence.max_gap_s = max(sequence.max_gap_s, gap)
                self._runs.joiner_gaps.append(gap)
            sequence.generated += 1
            sequence.last_token_s = end_s
            if sequence.generated == sequence.output_tokens:
                self._finish(lane, sequence, sequence.prefilled, end_s)
            else:
                lane.pool.join(sequence, sequence.prefilled)

    def _finish(self, lane: Lane, sequence: Sequence, held_tokens: int, end_s: float) -> None:
        held = blocks_for(held_tokens, self.blocks.block_size) if self._grows else sequence.blocks
        self._requests.finish(sequence, end_s, self.number)
        self.inbox.outstanding -= 1
        if self._scheduler.holds_until_batch_ends:
            lane.held_blocks += held
            lane.padding_rows += 1
        else:
            self.blocks.give(held)

    # -- what routers ask ------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """Requests routed here and not finished."""
        return self.inbox.outstanding

    def queued_blocks(self) -> int:
        """KV blocks that requests not yet admitted will take."""
        size = self.blocks.block_size
        return sum(self._scheduler.blocks_at_admission(s, size) for s in chain(self.waiting, self.inbox.pending()))
