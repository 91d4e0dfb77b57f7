"""Stall-free batching under a token budget: Sarathi-Serve (Agrawal et al., OSDI 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.serving.scheduler import BatchScheduler, Fraction, latest_victims
from policies.serving.view import DECODE_ONLY, UNLIMITED, Batch, Chunk, StepView


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedPrefill(BatchScheduler):
    """Sarathi-Serve: one token for every running sequence, then the rest of a started prompt, then new prompts, up to
    max_num_batched_tokens.

    A prompt's KV blocks are all taken when its first chunk is scheduled. When a running sequence finds no block, the
    latest to arrive are preempted by recomputation; a started prompt that is not among them goes on. The chunked
    prefill of vLLM v0 (from 0.4) took these rules over. vLLM v1 has others: blocks are taken chunk by chunk, no
    watermark is kept, and the last of the running list is preempted.
    """

    watermark_fraction: Fraction = 0.01  # of all blocks, kept free on admission (Sarathi-Serve and vLLM v0)

    preemption: ClassVar[str] = "recompute"
    chunks_prompts: ClassVar[bool] = True

    def next_batch(self, view: StepView) -> Batch | None:
        """Decodes, started prompt, new prompts, in that order."""
        running = view.num_running
        free = view.free_blocks - view.decode_blocks_needed
        if free < 0:
            return self._preempt(view)
        if view.partial is None and not view.waiting:
            return DECODE_ONLY if running else None
        chunks = self._next_chunk(view, self.max_num_batched_tokens - running)
        budget = self.max_num_batched_tokens - running - sum(tokens for _, tokens in chunks)
        admit, waits_for_kv = 0, False
        if budget > 0 and view.waiting:
            admit, waits_for_kv = self._admit(view, chunks, free, budget)
        repeats = 1
        if not chunks:
            repeats = UNLIMITED
        elif len(chunks) == 1:
            sequence, tokens = chunks[0]
            if tokens + running == self.max_num_batched_tokens:  # the whole budget: whole chunk after whole chunk
                repeats = (sequence.to_prefill - sequence.prefilled) // tokens
        if chunks or running:
            return Batch(chunks, running > 0, repeats, admit, waits_for_kv=waits_for_kv)
        return None

    def _preempt(self, view: StepView) -> Batch:
        """Put the latest off, and go on without them.

        Nobody is admitted: the head of the queue is now the last victim, and what it leaves free is less than the
        blocks it asks for.
        """
        victims = latest_victims(view, self.policy)
        if view.partial in victims:
            return Batch(decode=True, preempt=victims)
        budget = self.max_num_batched_tokens - (view.num_running - len(victims))
        return Batch(self._next_chunk(view, budget), decode=True, preempt=victims)

    def _next_chunk(self, view: StepView, budget: int) -> list[Chunk]:
        """The started prompt's next chunk within `budget` tokens, if there is a started prompt and a budget."""
        sequence = view.partial
        if sequence is None or budget <= 0:
            return []
        return [(sequence, min(budget, sequence.to_prefill - sequence.prefilled))]

    def _admit(self, view: StepView, chunks: list[Chunk], free: int, budget: int) -> tuple[int, bool]:
        """Append first chunks of waiting prompts; returns how many, and whether the next was refused for want of
        blocks.
        """
        if view.num_running or chunks:
            free -= int(self.watermark_fraction * view.total_blocks)
        seats = self.max_num_seqs - view.num_running - len(chunks)
        admit, size, cache = 0, view.block_size, view.cache
        if cache is not None and view.partial is not None:
            cache.accept(view.partial)  # there is a budget beyond it: it ends with this batch
        for sequence in view.waiting:
            if not budget or not seats:
                break
            if cache is not None:
                cache.look_up(sequence)
            free -= self.blocks_at_admission(sequence, size) - sequence.shared_blocks
            if free < 0:
                return admit, True
            tokens = min(budget, sequence.to_prefill - sequence.prefilled)
            chunks.append((sequence, tokens))
            if cache is not None:
                cache.accept(sequence)
            admit += 1
            budget -= tokens
            seats -= 1
        return admit, False

    def newcomer_could_join(self, view: StepView, batch: Batch) -> bool:
        """Only if the budget is not spent on a started prompt."""
        if batch.chunks and batch.repeats > 1:
            return False
        return BatchScheduler.newcomer_could_join(self, view, batch)
