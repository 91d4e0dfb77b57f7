"""Who sits in which row of the block table: an exact allocator of KV blocks, and every sequence's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.reference_server.batch import ChunkPlace, Ints, StepWork


class Seats:
    """Block tables and tokens of the sequences that hold KV; a request without a seat keeps its tokens on the side.

    The last row of the table and the last block belong to nobody: padding of graphs reads and writes there.
    """

    def __init__(self, *, seats: int, longest: int, blocks: int, block_size: int) -> None:
        """longest: tokens of the longest sequence, prompt and output."""
        self.block_size = block_size
        self.width = -(-longest // block_size)
        self.scratch_seat, self.scratch_block = seats, blocks
        self.table = np.full((seats + 1, self.width), blocks, dtype=np.int32)
        self.held = np.zeros(seats, dtype=np.int64)  # KV tokens in the cache
        self._blocks_of = np.zeros(seats, dtype=np.int64)
        self._tokens = np.zeros((seats, longest + 1), dtype=np.int32)
        self._free_blocks = list(range(blocks - 1, -1, -1))
        self._free_seats = list(range(seats - 1, -1, -1))
        self._seat_of: dict[int, int] = {}
        self._total = blocks
        self._cells: list[int] = []  # of the table, changed since the last step

    # -- membership ------------------------------------------------------------------------------------------------

    def open(self, index: int, tokens: NDArray[np.int32], blocks: int) -> None:
        """Give a request a seat and blocks; tokens: its prompt, and what it generated before a preemption."""
        seat = self._free_seats.pop()
        self._seat_of[index] = seat
        self._tokens[seat, : len(tokens)] = tokens
        self.held[seat] = 0
        self._blocks_of[seat] = 0
        self._extend(seat, blocks)

    def close(self, index: int, tokens: int) -> NDArray[np.int32]:
        """Take seat and blocks back; returns the first `tokens` tokens of the sequence."""
        seat = self._seat_of.pop(index)
        count = int(self._blocks_of[seat])
        self._free_blocks += self.table[seat, :count].tolist()
        self._free_seats.append(seat)
        return self._tokens[seat, :tokens].copy()

    def seat_of(self, index: int) -> int:
        """The row of a request."""
        return self._seat_of[index]

    @property
    def blocks_in_use(self) -> int:
        """Blocks that somebody holds."""
        return self._total - len(self._free_blocks)

    def _extend(self, seat: int, blocks: int) -> None:
        for _ in range(blocks):
            at = int(self._blocks_of[seat])
            self.table[seat, at] = self._free_blocks.pop()
            self._cells.append(seat * self.width + at)
            self._blocks_of[seat] = at + 1

    # -- one step --------------------------------------------------------------------------------------------------

    def work(self, chunks: Sequence[tuple[int, int]], decoding: Sequence[int]) -> StepWork:
        """The rows of a step; chunks: (request, new tokens); decoding: requests. Decodes get the blocks they need."""
        places = [ChunkPlace(seat, new, int(self.held[seat])) for seat, new in self._seated(chunks)]
        seats = np.fromiter((self._seat_of[index] for index in decoding), dtype=np.int64, count=len(decoding))
        held = self.held[seats]
        for seat in seats[held == self._blocks_of[seats] * self.block_size].tolist():
            self._extend(seat, 1)
        spans = [(place.seat, np.arange(place.past, place.past + place.new)) for place in places]
        tokens = [self._tokens[seat, span] for seat, span in spans]
        slots = [self._slots(seat, span) for seat, span in spans]
        contexts = [self._slots(place.seat, np.arange(place.past + place.new)) for place in places]
        cells = np.asarray(self._cells, dtype=np.int64)
        self._cells.clear()
        return StepWork(
            tokens=np.concatenate([*tokens, self._tokens[seats, held]]).astype(np.int64),
            positions=np.concatenate([*(span for _, span in spans), held]),
            slots=np.concatenate([*slots, self._slots(seats, held)]),
            chunks=places,
            chunk_slots=np.concatenate(contexts) if any(place.past for place in places) else None,
            decode_seats=seats,
            decode_lengths=held + 1,
            table_cells=cells,
            table_blocks=self.table.reshape(-1)[cells].astype(np.int64),
        )

    def take(self, work: StepWork, sampled: Ints) -> None:
        """The step is done: its KV is in the cache, and each sampled token stands behind its row.

        A chunk that ends inside its prompt samples too, as in every engine; the prompt's own token stays.
        """
        for place in work.chunks:
            self.held[place.seat] += place.new
        self.held[work.decode_seats] += 1
        decodes = len(work.decode_seats)
        if decodes:
            self._tokens[work.decode_seats, work.decode_lengths] = sampled[len(sampled) - decodes :]

    def append(self, index: int, position: int, token: int) -> None:
        """Set a sequence's token."""
        self._tokens[self._seat_of[index], position] = token

    def _seated(self, chunks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(self._seat_of[index], new) for index, new in chunks]

    def _slots(self, seat: int | Ints, positions: Ints) -> Ints:
        blocks = self.table[seat, positions // self.block_size].astype(np.int64)
        return np.asarray(blocks * self.block_size + positions % self.block_size)
