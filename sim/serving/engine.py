"""The state of a serving engine and what every batch does to it; when that happens is the business of the loops above
it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Seq

from policies.serving import Batch, BatchScheduler, Sequence, blocks_for
from sim.serving.inbox import Inbox
from sim.serving.kv_blocks import KvBlocks
from sim.serving.lane import Lane, Limits
from sim.serving.prefix_cache import PrefixCache
from sim.serving.record import RequestLog, RunLog, pack_run
from sim.serving.run import Run


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
        self.outstanding = 0  # requests routed here and not finished
        self.queued_blocks = 0  # KV blocks that the requests routed here and not yet admitted will take
        self.kv_queue_s = 0.0  # time in which the queue's head was refused for want of KV blocks
        self._refusing: set[int] = set()  # lanes that refuse it now
        self._refused_until_s = 0.0  # kv_queue_s is counted up to here
        self.now_s = 0.0
        self.lanes = [Lane(i, limits, self) for i in range(lanes)]
        self._scheduler = scheduler
        self._grows = scheduler.grows_by_block
        self._swap_block_s = limits.swap_block_s
        self.cache: PrefixCache | None = None
        self._runs = run_log
        self._requests = request_log

    def use_cache(self, cache: PrefixCache) -> None:
        """Keep the KV of those that leave; before the first request."""
        self.cache, self.blocks = cache, cache.blocks
        for lane in self.lanes:
            lane.view.cache = cache

    def prompt_s(self, tokens: int, before: int) -> float:
        """Seconds of a step that computes nothing but so many tokens of a prompt after so many."""
        raise NotImplementedError

    # -- deciding --------------------------------------------------------------------------------------------------

    def take_arrivals(self) -> None:
        """Queue everything that has arrived; what could never fit is turned away."""
        for sequence in self.inbox.take(self.now_s):
            if self._can_hold(sequence):
                if self.inbox.counts_on_take:
                    self._count_in(sequence)
                self.waiting.push(sequence)
            else:
                self._requests.rejected.append(sequence.index)

    def receive(self, index: int) -> bool:
        """Put an arrival into the inbox; False where it could never fit: turned away at once, unseen by routers."""
        sequence = self.inbox.sequence(index)
        if self._can_hold(sequence):
            self._count_in(sequence)
            self.inbox.put(index)
            return True
        self._requests.rejected.append(index)
        return False

    def _count_in(self, sequence: Sequence) -> None:
        self.outstanding += 1
        self.queued_blocks += sequence.blocks

    def _can_hold(self, sequence: Sequence) -> bool:
        """Could it ever be served? Notes the blocks it will take on admission."""
        size, limit = self.blocks.block_size, self._scheduler.max_model_len
        longest = sequence.prompt_tokens + sequence.output_tokens
        sequence.blocks = self._scheduler.blocks_at_admission(sequence, size)
        need = max(blocks_for(longest - 1, size), sequence.blocks)
        return need <= self.blocks.total and not (limit and longest > limit)

    def decide(self, lane: Lane) -> tuple[Batch | None, float]:
        """A lane's next batch with its admissions and preemptions done, and the seconds of copying KV blocks for it."""
        view, pool, copy_s = lane.view, lane.pool, 0.0
        while True:
            if self.cache is not None:
                self.cache.begin(self.now_s)
            view.now_s = self.now_s
            view.num_running = pool.count
            view.partial = lane.partial
            view.free_blocks = self.blocks.free
            if self._grows:
                view.decode_blocks_needed = pool.blocks_due[pool.step % pool.block_size]
            view.decode_step = pool.step
            batch = self._scheduler.next_batch(view)
            if batch is None:
                self._note_refusal(lane, None)
                return None, copy_s
            if batch.preempt:
                copy_s += self._preempt(lane, batch.preempt)
            if batch.resume:
                copy_s += self._resume(lane, batch.resume)
            if batch.admit:
                admitted = [self.waiting.pop() for _ in range(batch.admit)]
                if self.cache is not None:
                    self.cache.admit(admitted)
                for sequence in admitted:
                    self._admit(sequence)
            if batch.chunks or pool.count:
                if self._refusing or batch.waits_for_kv or batch.preempt:
                    self._note_refusal(lane, batch)
                batch.admit = 0  # done: from now on the queue is what is left of it
                return batch, copy_s
            # everyone was put off: decide again, with their memory free

    def _note_refusal(self, lane: Lane, batch: Batch | None) -> None:
        """Count the time in which the head of the queue is refused for want of KV blocks.

        A lane's refusal stands until its next decision, or until another lane lets the head in.
        """
        refusing = self._refusing
        if refusing:
            self.kv_queue_s += self.now_s - self._refused_until_s
        self._refused_until_s = self.now_s
        if batch is None:  # an empty lane has seats and budget for anybody who queues, but no blocks
            refused = bool(self.waiting or self.swapped)
        elif self._scheduler.holds_until_batch_ends and not batch.chunks:
            refused = lane.number in refusing  # as when the batch began: nobody is asked until it ends
        else:
            refused = batch.waits_for_kv or bool(batch.preempt)
        if batch is not None and (batch.admit or batch.resume):
            refusing.clear()
        if refused:
            refusing.add(lane.number)
        else:
            refusing.discard(lane.number)

    # -- memory ----------------------------------------------------------------------------------------------------

    def _admit(self, sequence: Sequence) -> None:
        if sequence.first_scheduled_s < 0.0:
            sequence.first_scheduled_s = max(self.now_s, sequence.arrival_s)  # it may be due a little early
            sequence.cached_tokens = sequence.prefilled
        self.queued_blocks -= sequence.blocks
        if self.cache is None:
            self.blocks.take(sequence.blocks)

    def _preempt(self, lane: Lane, victims: Seq[Sequence]) -> float:
        copied = 0
        for sequence in victims:
            sequence.preemptions += 1
            if sequence is lane.partial:
                lane.partial = None
                self._give(sequence, sequence.blocks, sequence.prefilled)
            else:
                context = lane.pool.leave(sequence)
                held = blocks_for(context, self.blocks.block_size)
                self._give(sequence, held, context)
                if self._swaps(held, context):
                    sequence.join_context = context
                    sequence.blocks = blocks_for(context + 1, self.blocks.block_size)
                    self.swap_blocks_free -= held
                    self.swapped.appendleft(sequence)
                    copied += held
                    continue
            sequence.to_prefill = sequence.prompt_tokens + sequence.generated
            sequence.prefilled = 0
            sequence.blocks = self._scheduler.blocks_at_admission(sequence, self.blocks.block_size)
            self.queued_blocks += sequence.blocks
            self.waiting.push_back(sequence)
        return copied * self._swap_block_s

    def _give(self, sequence: Sequence, blocks: int, tokens: int) -> None:
        """A sequence leaves that holds so many blocks, with the KV of so many tokens."""
        if self.cache is None:
            self.blocks.give(blocks)
        else:
            self.cache.leave(sequence, blocks, tokens, self.now_s)

    def _swaps(self, held: int, context: int) -> bool:
        """Is a victim swapped out?"""
        how = self._scheduler.preemption
        if how == "recompute" or held > self.swap_blocks_free:
            return False
        return how == "swap" or 2 * held * self._swap_block_s < self.prompt_s(context + 1, 0)

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
        last_step_s = run.waited_s + run.first_s + run.slope_s * (steps - 1)
        context, window_context, growing = pool.context, pool.window_context, pool.window_growth
        if decodes:
            first_end_s = run.first_end_s
            gap_s, gap_seqs, joiners = pool.advance(steps, first_end_s, end_s, last_step_s)
            for sequence in joiners:
                gap = first_end_s - sequence.last_token_s
                self._runs.joiner_gaps.append(gap)
                self._runs.joiner_waits_s += gap - run.first_s - run.waited_s
        work = steps * run.part
        self._runs.rows += self._row(lane, run, steps, work, context, window_context, growing, gap_s, gap_seqs)
        if decodes and pool.steps_to_finish() <= 0:
            for sequence, held in pool.pop_finished():
                self._finish(lane, sequence, held, end_s)
        if batch.chunks:
            self._commit_chunks(lane, run, last_step_s)
        if lane.held_blocks and not pool.count:  # a request-level batch is over
            self.blocks.give(lane.held_blocks)
            lane.held_blocks = lane.padding_rows = 0

    def _row(
        self, lane: Lane, run: Run, steps: int, work: float, context: int, window_context: int, growing: int,
        gap_s: float = 0.0, gap_seqs: int = 0,
    ) -> bytes:  # fmt: skip
        """A run's row, of its first `steps` steps; contexts are the decoding sequences' before the first."""
        load, decodes = lane.load, run.decodes
        return pack_run(
            self.number, lane.number, run.start_s, run.first_s, run.slope_s, steps, load.tokens, load.chunks,
            load.pairs,
            load.context, decodes, run.padding_rows, context + decodes, window_context + growing, growing,
            load.window_pairs, load.window_context, run.copy_s, run.transfer_s, gap_s, gap_seqs,
            self.blocks.total - self.blocks.free, len(self.waiting), run.clock, work,
        )  # fmt: skip

    def _commit_chunks(self, lane: Lane, run: Run, last_step_s: float) -> None:
        lane.partial, end_s = None, run.end_s
        for sequence, tokens in run.batch.chunks:
            sequence.prefilled += tokens * run.steps
            if sequence.prefilled < sequence.to_prefill:
                lane.partial = sequence
                continue
            if self.cache is not None:
                self.cache.computed(sequence, end_s)
            if sequence.generated == 0:
                sequence.first_token_s = end_s
            else:  # recomputed after a preemption: its user waited since its last token
                gap = end_s - sequence.last_token_s
                sequence.max_gap_s = max(sequence.max_gap_s, gap)
                self._runs.joiner_gaps.append(gap)
                self._runs.joiner_waits_s += gap - last_step_s
            sequence.generated += 1
            sequence.last_token_s = end_s
            if sequence.generated == sequence.output_tokens:
                self._finish(lane, sequence, sequence.prefilled, end_s)
            else:
                lane.pool.join(sequence, sequence.prefilled)

    def _finish(self, lane: Lane, sequence: Sequence, held_tokens: int, end_s: float) -> None:
        held = blocks_for(held_tokens, self.blocks.block_size) if self._grows else sequence.blocks
        self._requests.finish(sequence, end_s, self.number)
        self.outstanding -= 1
        if self.cache is not None:
            self.cache.leave(sequence, held, held_tokens, end_s, done=True)
        elif self._scheduler.holds_until_batch_ends:
            lane.held_blocks += held
            lane.padding_rows += 1
        else:
            self.blocks.give(held)
