"""What attention costs in a step, tabulated from the calibrated kernels so that the engine prices a batch in a few
additions.

Decoding: for each number of sequences, seconds over their total context, a line between knots. Prompts: for each
number of new tokens and chunks, seconds are a launch and the largest of a few lines in pairs and keys.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardware_models.device import Device
from hardware_models.kernels.attention_decode import key_tile
from policies.serving import UNLIMITED
from sim.serving.step_cost import Interval, Parts
from workloads.models.operators import AttentionShape, Dtypes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Mean contexts between which decoding is taken as a line: a quarter of an octave apart, to two million tokens.
# Beside them the contexts of one tile of keys, beyond which a second kernel adds up the parts of a split context.
ONE_TILE = np.floor(key_tile(np.array([64.0, 80.0, 96.0, 112.0, 128.0, 192.0, 256.0])))  # of head dimensions in use
KNOTS = np.unique(np.concatenate([[1.0], np.round(2.0 ** np.arange(2.0, 21.25, 0.25)), ONE_TILE, ONE_TILE + 1.0]))
KNOT_LIST = KNOTS.tolist()
BEYOND = 1e15  # tokens: no context is longer
TOKENS = 2048  # new tokens tabulated at once
COLUMNS = 5  # of what is kept of decoding: see `DecodeCost.tabulate`

Line = tuple[float, float, float]  # seconds: constant, a pair, a key


class DecodeCost:
    """One group of equal layers decoding: all its kernels of a step."""

    def __init__(self, device: Device, shape: AttentionShape, dtypes: Dtypes, mixed: bool = False) -> None:
        self.windowed = bool(shape.window)
        self._device, self._shape, self._dtypes, self._mixed = device, shape, dtypes, mixed
        op = shape.decode_op(sequences=1.0, kv_tokens=1.0, dtypes=dtypes)
        self._bytes_per_token = shape.layers * float(op.stored_bytes)
        self.knots = KNOT_LIST
        self.rows: dict[int, list[Interval]] = {}
        self._split: dict[int, Floats] = {}  # sequences -> (columns, knots): see `tabulate`
        self._tables, self._tabled = np.zeros((COLUMNS, 1, len(KNOTS))), np.zeros(1, bool)  # the same, and which are in

    def parts(self, sequences: Ints, context: Floats) -> Parts:
        """Of many steps, at least one, each with sequences."""
        tables = self._columns_of(sequences)
        j = np.searchsorted(KNOTS, np.maximum(context / sequences, 1.0), side="right") - 1
        value, slope, launch, compute, sigma = tables[:, sequences, j]
        busy = value + slope * (context - sequences * KNOTS[j]) - launch
        return Parts(launch, busy, compute > 0.0, np.zeros(len(busy)), slope, sigma)

    def read_bytes(self, context: Floats) -> Floats:
        """KV read from one rank's memory at such total contexts."""
        return self._bytes_per_token * context

    def _columns_of(self, sequences: Ints) -> Floats:
        """Columns of at least these numbers of sequences: (columns, sequences, knots)."""
        most = int(sequences.max())
        if most >= self._tables.shape[1]:
            wider = np.zeros((COLUMNS, 2 * most, len(KNOTS)))
            wider[:, : self._tables.shape[1]] = self._tables
            self._tables = wider
            self._tabled = np.append(self._tabled, np.zeros(2 * most - len(self._tabled), bool))
        missing = sequences[~self._tabled[sequences]]
        for number in np.unique(missing).tolist() if len(missing) else ():
            if number not in self._split:
                self.tabulate(number)
            self._tables[:, number] = self._split[number]
            self._tabled[number] = True
        return self._tables

    def tabulate(self, sequences: int) -> list[Interval]:
        """Intervals of total context for so many sequences; keeps columns over knots: seconds, slope, launch, whether
        compute-bound, log standard deviation.
        """
        op = self._shape.decode_op(
            sequences=float(sequences), kv_tokens=sequences * KNOTS, dtypes=self._dtypes, mixed=self._mixed
        )
        price = self._device.price(op)
        seconds = self._shape.layers * price.seconds
        slope = np.append(np.diff(seconds) / np.diff(sequences * KNOTS), 0.0)
        slope[-1] = slope[-2]
        launch = self._shape.layers * np.broadcast_to(price.launch_s, seconds.shape)
        sigma = self._device.sigma(op, price)
        self._split[sequences] = np.stack([seconds, slope, launch, price.compute_bound.astype(float), sigma])
        starts = (sequences * KNOTS).tolist()
        row = list(zip(starts, [*starts[1:], BEYOND], seconds.tolist(), slope.tolist(), strict=True))
        self.rows[sequences] = row
        return row


class PrefillCost:
    """One group of equal layers reading prompts or chunks of them: all its kernels of a step."""

    def __init__(self, device: Device, shape: AttentionShape, dtypes: Dtypes) -> None:
        self.windowed = bool(shape.window)
        self.window = shape.window
        self._device, self._shape, self._dtypes = device, shape, dtypes
        op = shape.prefill_op(pairs=1.0, queries=1.0, kv_tokens=1.0, sequences=1.0, dtypes=dtypes)
        device.peak_flop_per_s(op.dtype)  # refuses a format without arithmetic
        self._kernel = device.kernel(op)
        self._bytes_per_token = shape.layers * float(op.stored_bytes)
        self._blocks = np.empty((0, TOKENS, 0))  # of new tokens: (blocks, tokens, 1 + 3 lines), with room for more
        self._places = np.full((8, 4), -1)  # (chunks, block of tokens) -> which of these; -1: not priced yet
        self._compute_lines = 0
        self._cache: dict[tuple[int, int], tuple[float, list[Line]]] = {}

    def price(
        self, tokens: int, chunks: int, pairs: float, context: float, pair_growth: float, context_growth: float
    ) -> tuple[float, float, int]:
        """Seconds of a step, how many more each following one takes, and for how many steps that holds.

        tokens, chunks: new tokens and the chunks they come in. pairs, context: visible pairs and keys, over all chunks;
        their growth from one step to the next.
        """
        launch, lines = self._cache.get((tokens, chunks)) or self._lines(tokens, chunks)
        best, best_pair, best_key = -1.0, 0.0, 0.0
        for constant, per_pair, per_key in lines:
            value = constant + per_pair * pairs + per_key * context
            if value > best:
                best, best_pair, best_key = value, per_pair, per_key
        steps = UNLIMITED
        best_slope = best_pair * pair_growth + best_key * context_growth
        if chunks == 1 and len(lines) > 1:
            for constant, per_pair, per_key in lines:
                slope = per_pair * pair_growth + per_key * context_growth
                if slope > best_slope:
                    lead = best - (constant + per_pair * pairs + per_key * context)
                    steps = min(steps, int(lead / (slope - best_slope)) + 1)
        return launch + best, best_slope, steps

    def parts(self, tokens: Ints, chunks: Ints, pairs: Floats, context: Floats) -> Parts:
        """Of many steps, at least one, each with chunks."""
        rows = self._gather(tokens, chunks)
        lines = rows[:, 1:].reshape(len(tokens), -1, 3)
        values = lines[:, :, 0] + lines[:, :, 1] * pairs[:, None] + lines[:, :, 2] * context[:, None]
        best, at = np.argmax(values, axis=1), np.arange(len(tokens))
        longest, arithmetic = values[at, best], best < self._compute_lines
        regime = np.where(rows[:, 0] > longest, 0, np.where(arithmetic, 2, 1))
        spread = np.asarray(self._kernel.spread)[regime]
        return Parts(rows[:, 0], longest, arithmetic, lines[at, best, 1], lines[at, best, 2], spread)

    def read_bytes(self, context: Floats) -> Floats:
        """KV read from one rank's memory at such total contexts."""
        return self._bytes_per_token * context

    def _lines(self, tokens: int, chunks: int) -> tuple[float, list[Line]]:
        row = self._row(tokens, chunks).tolist()
        found = row[0], _undominated(list(zip(row[1::3], row[2::3], row[3::3], strict=True)))
        if len(self._cache) > 100_000:  # a long run of ever new batches
            self._cache.clear()
        self._cache[tokens, chunks] = found
        return found

    def _row(self, tokens: int, chunks: int) -> Floats:
        """Launch seconds, then constant, seconds a pair and seconds a key of each line."""
        block, inside = divmod(tokens - 1, TOKENS)
        if not (chunks < self._places.shape[0] and block < self._places.shape[1] and self._places[chunks, block] >= 0):
            self._add(chunks, block)
        return np.asarray(self._blocks[self._places[chunks, block], inside])

    def _gather(self, tokens: Ints, chunks: Ints) -> Floats:
        """Rows of many steps: (steps, columns)."""
        block, inside = np.divmod(tokens - 1, TOKENS)
        if chunks.max() >= self._places.shape[0] or block.max() >= self._places.shape[1]:
            self._widen(int(chunks.max()), int(block.max()))
        places = self._places[chunks, block]
        if places.min() < 0:
            for pair in sorted(set(zip(chunks[places < 0].tolist(), block[places < 0].tolist(), strict=True))):
                self._add(*pair)
            places = self._places[chunks, block]
        return np.asarray(self._blocks[places, inside])

    def _add(self, chunks: int, block: int) -> None:
        """Price a block of tokens in so many chunks."""
        made = self._tabulate(chunks, block)
        self._widen(chunks, block)
        place = int(self._places.max()) + 1
        if place >= len(self._blocks):
            wider = np.empty((max(8, 2 * place), *made.shape))
            if place:
                wider[:place] = self._blocks
            self._blocks = wider
        self._blocks[place] = made
        self._places[chunks, block] = place

    def _widen(self, chunks: int, block: int) -> None:
        """Make room for the place of such a block."""
        have = self._places.shape
        if chunks < have[0] and block < have[1]:
            return
        wider = np.full((max(have[0], 2 * chunks), max(have[1], 2 * block)), -1)
        wider[: have[0], : have[1]] = self._places
        self._places = wider

    def _tabulate(self, chunks: int, block: int) -> Floats:
        tokens = np.maximum(np.arange(block * TOKENS + 1.0, (block + 1) * TOKENS + 1.0), chunks)
        op = self._shape.prefill_op(
            pairs=tokens, queries=tokens, kv_tokens=tokens, sequences=float(chunks), dtypes=self._dtypes
        )
        lines = self._device.prefill_lines(op)
        self._compute_lines = len(lines.compute)
        columns = [lines.launch_s]
        for line in (*lines.compute, *lines.memory):
            columns += [line.constant_s, line.s_per_pair, line.s_per_kv_token]
        stacked = np.stack([np.broadcast_to(column, tokens.shape) for column in columns], axis=1)
        return np.asarray(self._shape.layers * stacked, float)


def _undominated(lines: list[Line]) -> list[Line]:
    """Lines that are the largest somewhere: none is at or below another in constant and both slopes."""
    kept: list[Line] = []
    for line in sorted(lines, reverse=True):
        if not any(all(a <= b for a, b in zip(line, other, strict=True)) for other in kept):
            kept.append(line)
    return kept
