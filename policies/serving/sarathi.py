"""SARATHI's decode-maximal batches: one prefill chunk of fixed size, and every decode that fits beside it (Agrawal et
al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from policies.serving.reservation import RESERVATIONS, ReservationName
from policies.serving.scheduler import BatchScheduler
from policies.serving.view import UNLIMITED, Batch, Sequence, StepView, blocks_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Sarathi(BatchScheduler):
    """Each iteration holds at most one chunk of one prompt, and one token for every running sequence.

    With `tile_aligned` the chunk shrinks by the number of running sequences, so that the rows of a batch stay at
    chunk_size, a multiple of the GEMM tile. Memory is set aside at full length, one slot a sequence.
    """

    chunk_size: Annotated[int, Gt(0)] = 256
    tile_aligned: bool = True
    reservation: ReservationName = "max"

    grows_by_block: ClassVar[bool] = False
    chunks_prompts: ClassVar[bool] = True

    def next_batch(self, view: StepView) -> Batch | None:
        """The started prompt's next chunk, or the first chunk of the oldest waiting one."""
        decode = view.num_running > 0
        size = max(1, self.chunk_size - view.num_running) if self.tile_aligned else self.chunk_size
        sequence, admit, waits_for_kv = view.partial, 0, False
        if sequence is None and view.waiting and view.num_running < self.max_num_seqs:
            head = next(iter(view.waiting))
            if self.blocks_at_admission(head, view.block_size) <= view.free_blocks:
                sequence, admit = head, 1
            else:
                waits_for_kv = True
        if sequence is None:
            return Batch((), True, UNLIMITED, waits_for_kv=waits_for_kv) if decode else None
        left = sequence.to_prefill - sequence.prefilled
        return Batch([(sequence, min(size, left))], decode, max(1, left // size), admit)

    def blocks_at_admission(self, sequence: Sequence, block_size: int) -> int:
        """The whole reservation."""
        return blocks_for(RESERVATIONS[self.reservation](sequence, self.max_model_len), block_size)

    def newcomer_could_join(self, view: StepView, batch: Batch) -> bool:
        """Not while a prompt is being prefilled."""
        return not batch.chunks and BatchScheduler.newcomer_could_join(self, view, batch)
