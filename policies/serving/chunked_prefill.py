"""Stall-free batching under a token budget: Sarathi-Serve (Agrawal et al., OSDI 2024), and vLLM v1's scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.serving.scheduler import BatchScheduler, Fraction, latest_victims
from policies.serving.view import DECODE_ONLY, UNLIMITED, Batch, Chunk, StepView


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedPrefill(BatchScheduler):
    """One token for every running sequence, then the rest of a started prompt, then new prompts, up to
    max_num_batched_tokens.

    A prompt's KV blocks are taken when its first chunk is scheduled. When a running sequence finds no block, the
    latest sequences are preempted by recomputation, and nobody is admitted in that step.
    """

    watermark_fraction: Fraction = 0.01  # of all blocks, kept free on admission

    preemption: ClassVar[str] = "recompute"
    chunks_prompts: ClassVar[bool] = True

    def next_batch(self, view: StepView) -> Batch | None:
        """Decodes, started prompt, new prompts, in that order."""
        running = view.num_running
        free = view.free_blocks - view.decode_blocks_needed
        if free < 0:
            return Batch(decode=True, preempt=latest_victims(view, self.policy))
        partial = view.partial
        if partial is None and not view.waiting:
            return DECODE_ONLY if running else None
        budget = self.max_num_batched_tokens - running
        chunks: list[Chunk] = []
        if partial is not None and budget > 0:
            tokens = min(budget, partial.to_prefill - partial.prefilled)
            chunks.append((partial, tokens))
            budget -= tokens
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

    def _admit(self, view: StepView, chunks: list[Chunk], free: int, budget: int) -> tuple[int, bool]:
        """Append first chunks of waiting prompts; returns how many, and whether the next was refused for want of
        blocks.
        """
        if view.num_running or chunks:
            free -= int(self.watermark_fraction * view.total_blocks)
        seats = self.max_num_seqs - view.num_running - len(chunks)
        admit, size = 0, view.block_size
        for sequence in view.waiting:
            if not budget or not seats:
                break
            free -= self.blocks_at_admission(sequence, size)
            if free < 0:
                return admit, True
            tokens = min(budget, sequence.to_prefill)
            chunks.append((sequence, tokens))
            admit += 1
            budget -= tokens
            seats -= 1
        return admit, False

    def newcomer_could_join(self, view: StepView, batch: Batch) -> bool:
        """Only if the budget is not spent on a started prompt."""
        if batch.chunks and batch.repeats > 1:
            return False
        return BatchScheduler.newcomer_could_join(self, view, batch)
