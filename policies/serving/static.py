"""Request-level batching, as FasterTransformer behind a batching front end: a batch starts together and ends
together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.serving.reservation import RESERVATIONS, ReservationName
from policies.serving.scheduler import BatchScheduler
from policies.serving.view import DECODE_ONLY, Batch, Chunk, Sequence, StepView, blocks_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Static(BatchScheduler):
    """Take as many waiting requests as memory and slots allow, prefill them at once, decode until the last one ends.

    Sequences that end early deliver their answer but keep their row and their memory until the batch is over.
    """

    reservation: ReservationName = "max"

    grows_by_block: ClassVar[bool] = False
    holds_until_batch_ends: ClassVar[bool] = True

    def next_batch(self, view: StepView) -> Batch | None:
        """Decode while anyone is left; then the next batch of whole prompts."""
        if view.num_running:
            return DECODE_ONLY
        chunks: list[Chunk] = []
        free, waits_for_kv = view.free_blocks, False
        for sequence in view.waiting:
            if len(chunks) == self.max_num_seqs:
                break
            free -= self.blocks_at_admission(sequence, view.block_size)
            if free < 0:
                waits_for_kv = True
                break
            chunks.append((sequence, sequence.to_prefill))
        return Batch(chunks, admit=len(chunks), waits_for_kv=waits_for_kv) if chunks else None

    def blocks_at_admission(self, sequence: Sequence, block_size: int) -> int:
        """The whole reservation."""
        return blocks_for(RESERVATIONS[self.reservation](sequence, self.max_model_len), block_size)

    def newcomer_could_join(self, view: StepView, batch: Batch) -> bool:
        """Nobody joins a batch under way."""
        return False
