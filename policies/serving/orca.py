"""Orca's iteration-level batching with selective batching and reserved memory (Yu et al., OSDI 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from policies.serving.reservation import RESERVATIONS, ReservationName, buddy
from policies.serving.scheduler import BatchScheduler
from policies.serving.view import UNLIMITED, Batch, Chunk, Sequence, StepView, blocks_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Orca(BatchScheduler):
    """Every iteration holds all running sequences and the whole prompts of newcomers, first come first served.

    Memory for a sequence's full length is set aside when it joins (`reservation`: max, pow2 or oracle), so nobody is
    preempted.
    """

    reservation: ReservationName = "max"
    allocator: Literal["exact", "buddy"] = "exact"  # buddy, as in vLLM's re-implementation, rounds up to powers of two

    grows_by_block: ClassVar[bool] = False

    def next_batch(self, view: StepView) -> Batch | None:
        """Running sequences, and newcomers while slots and reservations last."""
        chunks: list[Chunk] = []
        free, seats, waits_for_kv = view.free_blocks, self.max_num_seqs - view.num_running, False
        if seats > 0:
            for sequence in view.waiting:
                free -= self.blocks_at_admission(sequence, view.block_size)
                if free < 0:
                    waits_for_kv = True
                    break
                chunks.append((sequence, sequence.to_prefill))
                if len(chunks) == seats:
                    break
        if not chunks and not view.num_running:
            return None
        repeats = 1 if chunks else UNLIMITED
        return Batch(chunks, view.num_running > 0, repeats, len(chunks), waits_for_kv=waits_for_kv)

    def blocks_at_admission(self, sequence: Sequence, block_size: int) -> int:
        """The whole reservation."""
        blocks = blocks_for(RESERVATIONS[self.reservation](sequence, self.max_model_len), block_size)
        return buddy(blocks) if self.allocator == "buddy" else blocks
