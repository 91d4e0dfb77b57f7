"""One step's work: as the host states it, in numpy, and as the model reads it, in tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Part of a prompt: `new` tokens after `past` ones whose KV the sequence in `seat` holds already."""

    seat: int
    new: int
    past: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """Rows of the chunks first, in order, then one row a decoding sequence."""

    tokens: Ints  # (rows,)
    positions: Ints  # (rows,)
    slots: Ints  # (rows,) where KV goes: block x block_size + offset
    chunks: Sequence[ChunkPlace]
    chunk_slots: Ints | None  # KV of all chunks' contexts, new tokens included, one after another; None: all past are 0
    decode_seats: Ints  # (decodes,)
    decode_lengths: Ints  # (decodes,) KV tokens, the new one included
    table_cells: Ints  # flat indices of the block table that change before the step
    table_blocks: Ints  # and their new values

    @property
    def chunk_rows(self) -> int:
        """Rows of chunks."""
        return len(self.tokens) - len(self.decode_seats)

    @property
    def sample_rows(self) -> Ints:
        """The last row of each chunk, and every decoding one."""
        ends = np.cumsum([chunk.new for chunk in self.chunks], dtype=np.int64) - 1
        return np.concatenate([ends, np.arange(self.chunk_rows, len(self.tokens))])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkBatch:
    """Chunks on the device."""

    places: Sequence[ChunkPlace]
    rows: int
    slots: Any  # (contexts,), or None: no chunk has past tokens
    query_ends: Any  # (chunks + 1,) int32: 0 and the running sum of new tokens
    context_ends: Any  # (chunks + 1,) int32: of new and past tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeBatch:
    """Decoding sequences on the device."""

    seats: Any  # (decodes,) rows of the block table
    lengths: Any  # (decodes,) int32
    count: int
    longest: int  # the largest length; 0 in a graph, which must do for any


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBatch:
    """What a forward pass reads."""

    tokens: Any
    positions: Any
    slots: Any
    sample_rows: Any  # or None: every row
    chunks: ChunkBatch | None
    decodes: DecodeBatch | None
