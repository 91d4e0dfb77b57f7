"""CUDA graphs of decode-only steps, one a padded batch size, as serving engines capture them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from calibration.reference_server.batch import DecodeBatch, DeviceBatch, StepWork
from calibration.reference_server.model import Cache, Model

SMALL_SIZES = (1, 2, 4)
SIZE_STEP = 8  # sizes above, as vLLM's default
LARGEST = 512
INPUTS = 5  # tokens, positions, slots, seats, lengths
WARM_UPS = 2


def graph_sizes(largest: int) -> list[int]:
    """1, 2, 4, then every 8, up to the first that holds `largest` sequences (512 at most), ascending."""
    top = min(LARGEST, -(-largest // SIZE_STEP) * SIZE_STEP)
    return [size for size in SMALL_SIZES if size < largest] + (
        [largest] if largest in SMALL_SIZES else list(range(SIZE_STEP, top + 1, SIZE_STEP))
    )


class DecodeGraphs:
    """Each graph reads a static buffer and writes a static vector of tokens; its padding rows use scratch memory."""

    def __init__(self, torch: Any, model: Model, cache: Cache, table: Any) -> None:
        self.largest = 0
        self._torch, self._model, self._cache = torch, model, cache
        self._device, self._scratch_seat = table.device, table.shape[0] - 1
        blocks, block_size = cache[0][0].shape[:2]
        self._scratch_slot = (blocks - 1) * block_size
        self._graphs: dict[int, tuple[Callable[[], None], Any, Any]] = {}  # rows -> replay, inputs, tokens out
        self._pool: Any = None  # of memory, which all graphs share
        self._rows = 0

    def capture(self, largest: int, progress: Callable[[str], None]) -> list[int]:
        """Capture all sizes, the largest first, so that the smaller ones share its memory."""
        torch, sizes = self._torch, graph_sizes(largest)
        self.largest = sizes[-1]
        on_gpu = self._device.type == "cuda"
        self._host = torch.empty(INPUTS * self.largest, dtype=torch.int64, pin_memory=on_gpu)
        for number, rows in enumerate(reversed(sizes)):
            inputs = torch.zeros(INPUTS * rows, dtype=torch.int64, device=self._device)
            inputs.copy_(self._padding(rows).reshape(-1))
            replay, tokens = self._recorded(inputs, rows)
            self._graphs[rows] = replay, inputs, tokens
            if number % 8 == 0:
                progress(f"captured a graph of {rows} rows, {number + 1} of {len(sizes)}")
        return sizes

    def _recorded(self, inputs: Any, rows: int) -> tuple[Callable[[], None], Any]:
        """What replays the forward pass over `inputs`, and the tokens it writes."""
        cuda = self._torch.cuda
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.forward(inputs, rows)
        cuda.current_stream().wait_stream(stream)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph, pool=self._pool):
            tokens = self.forward(inputs, rows)
        self._pool = self._pool or graph.pool()
        return graph.replay, tokens

    def load(self, work: StepWork) -> int:
        """Put a step's numbers into the smallest graph that holds it; returns that graph's rows.

        The step before must be over: its copy out of the pinned buffer, too.
        """
        count = len(work.decode_seats)
        rows = min(size for size in self._graphs if size >= count)
        host = self._host[: INPUTS * rows].view(INPUTS, rows)
        filled = host.numpy()
        filled[:] = self._padding_values(rows)
        for row, values in enumerate((work.tokens, work.positions, work.slots, work.decode_seats, work.decode_lengths)):
            filled[row, :count] = values
        self._graphs[rows][1].copy_(host.reshape(-1), non_blocking=True)
        self._rows = rows
        return rows

    def replay(self) -> Any:
        """Run what was loaded; tokens of all rows, padding last: (rows,)."""
        replay, _, tokens = self._graphs[self._rows]
        replay()
        return tokens

    def forward(self, inputs: Any, rows: int) -> Any:
        """Tokens of `rows` sequences whose numbers stand in `inputs`: (5 x rows,)."""
        tokens, positions, slots, seats, lengths = inputs.view(INPUTS, rows).unbind(0)
        decodes = DecodeBatch(seats=seats, lengths=lengths.int(), count=rows, longest=0)
        batch = DeviceBatch(
            tokens=tokens, positions=positions, slots=slots, sample_rows=None, chunks=None, decodes=decodes
        )
        return self._model.next_tokens(batch, self._cache)

    def _padding(self, rows: int) -> Any:
        return self._torch.from_numpy(np.repeat(self._padding_values(rows), rows, axis=1)).to(self._device)

    def _padding_values(self, rows: int) -> Any:
        """(5, 1): one token that attends to itself, in scratch memory."""
        return np.array([[0], [0], [self._scratch_slot], [self._scratch_seat], [1]], dtype=np.int64)
