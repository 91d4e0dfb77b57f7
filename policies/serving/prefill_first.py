"""Paged batching that puts prompts first: vLLM as its paper has it (Kwon et al., SOSP 2023, arXiv 2309.06180)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policies.serving.scheduler import BatchScheduler, Fraction, latest_victims
from policies.serving.view import DECODE_ONLY, UNLIMITED, Batch, Chunk, StepView


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillFirst(BatchScheduler):
    """vLLM's paper: if any waiting prompt fits, a prompt-only iteration; else one token for every running sequence.

    When blocks run out the latest sequences are preempted, by `recompute` (back to the queue) or `swap` (to host
    memory, while room lasts; beyond it, recompute), or by the `cheaper` for each by the engine's own prices. While
    anything is swapped out, nobody new is admitted. A prompt longer than max_num_batched_tokens runs alone.

    Prompts of a batch are not padded to the longest, and swapped sequences come back as soon as they fit; later 0.2
    releases (0.2.6 for one) limit the padding (max_paddings) and keep the watermark free on return too. Sequences
    stand alone: no beams or parallel samples that share blocks.
    """

    preemption_mode: Literal["recompute", "swap", "cheaper"] = "recompute"
    watermark_fraction: Fraction = (
        0.01  # of all blocks, kept free on admission (the released code; the paper is silent)
    )

    def next_batch(self, view: StepView) -> Batch | None:
        """Prompts, else swapped sequences back, else decode (preempting the latest where memory is short)."""
        admitted: list[Chunk] = []
        waits_for_kv = False
        if view.waiting and not view.swapped:
            waits_for_kv = self._admit(view, admitted)
            if admitted:
                return Batch(admitted, admit=len(admitted), waits_for_kv=waits_for_kv)
        if view.decode_blocks_needed > view.free_blocks:
            return Batch(decode=True, preempt=latest_victims(view, self.policy), waits_for_kv=True)
        if view.swapped:
            resume = self._resume(view)
            if resume:
                return Batch(decode=True, resume=resume)
            waits_for_kv = True
        if not view.num_running:
            return None
        return Batch(decode=True, repeats=UNLIMITED, waits_for_kv=True) if waits_for_kv else DECODE_ONLY

    def _admit(self, view: StepView, chunks: list[Chunk]) -> bool:
        """Append whole prompts that fit; returns whether the next was refused for want of blocks."""
        tokens = 0
        free = view.free_blocks - int(self.watermark_fraction * view.total_blocks)
        if not view.num_running:
            free = view.free_blocks  # an idle engine must not wait for its own watermark
        seats = self.max_num_seqs - view.num_running
        cache = view.cache
        for sequence in view.waiting:
            if cache is not None:
                cache.look_up(sequence)
            new = sequence.to_prefill - sequence.prefilled
            tokens += new
            if len(chunks) >= seats or (chunks and tokens > self.max_num_batched_tokens):
                break
            free -= self.blocks_at_admission(sequence, view.block_size) - sequence.shared_blocks
            if free < 0:
                return True
            chunks.append((sequence, new))
            if cache is not None:
                cache.accept(sequence)
        return False

    def _resume(self, view: StepView) -> int:
        """How many swapped sequences, oldest first, fit back beside one more token for the running ones."""
        free = view.free_blocks - view.decode_blocks_needed
        count = 0
        for sequence in view.swapped:
            free -= sequence.blocks  # set when it left: its context and one more token
            if free < 0 or view.num_running + count >= self.max_num_seqs:
                break
            count += 1
        return count

    @property
    def preemption(self) -> str:  # type: ignore[override]
        """How the engine puts a victim off."""
        return self.preemption_mode
