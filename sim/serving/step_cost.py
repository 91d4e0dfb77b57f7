"""What one step costs on one pipeline stage: tables for everything that depends on row counts, and attention's terms.

Built once a model and device from operator prices; then pricing a batch is a few additions, and so is saying how its
time grows as contexts grow, and for how many steps that growth stays the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policies.serving import UNLIMITED
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.row_costs import RowCosts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Parts:
    """What attention took in many steps that had some: (steps,) each."""

    launch_s: Floats
    busy_s: Floats
    compute_bound: NDArray[np.bool_]
    s_per_pair: Floats  # more of busy_s with a further (query, key) pair
    s_per_key: Floats
    sigma: Floats  # standard deviation of the seconds' logarithm


Interval = tuple[float, float, float, float]  # contexts it starts and ends at, seconds there, seconds a token beyond


class DecodeTerm(Protocol):
    """Decode attention of a group of equal layers."""

    windowed: bool
    knots: list[float]  # mean contexts of a sequence, rising, between which the cost is a line
    rows: dict[int, list[Interval]]  # sequences -> an interval from each knot on; filled by `tabulate`

    def tabulate(self, sequences: int) -> list[Interval]:
        """Intervals of total context for so many sequences."""

    def parts(self, sequences: Ints, context: Floats) -> Parts:
        """Of many steps, at least one, each with sequences."""

    def read_bytes(self, context: Floats) -> Floats:
        """KV read from one rank's memory at such total contexts."""


class PrefillTerm(Protocol):
    """Prompt attention of a group of equal layers."""

    windowed: bool

    def price(
        self, tokens: int, chunks: int, pairs: float, context: float, pair_growth: float, context_growth: float
    ) -> tuple[float, float, int]:
        """Seconds of a step, how many more each following one takes, and for how many steps that holds.

        tokens, chunks: new tokens and the chunks they come in. pairs, context: visible pairs and keys, over all
        chunks, and their growth from one step to the next.
        """

    def parts(self, tokens: Ints, chunks: Ints, pairs: Floats, context: Floats) -> Parts:
        """Of many steps, at least one, each with chunks."""

    def read_bytes(self, context: Floats) -> Floats:
        """KV read from one rank's memory at such total contexts."""


class StageCost:
    """Prices steps of one pipeline stage of a model on a device."""

    def __init__(
        self,
        rows: RowCosts,
        decode: Sequence[DecodeTerm],
        prefill: Sequence[PrefillTerm],
        window: int,
        host_s_per_step: float,
        host_s_per_sequence: float,
        eager_floor_s: float,
        decode_floor_s: float,
        host_sigma: float = 0.0,
        mixed_decode: Sequence[DecodeTerm] | None = None,
    ) -> None:
        self.rows = rows
        self.decode = decode
        self.mixed_decode = decode if mixed_decode is None else mixed_decode  # in steps with chunks
        self.prefill = prefill
        self.window = window
        self.host_s_per_step = host_s_per_step
        self.host_s_per_sequence = host_s_per_sequence
        self.eager_floor_s = eager_floor_s  # launching every kernel of a step from the host, one by one
        self.decode_floor_s = decode_floor_s  # the same for a decode-only step (captured as a graph, or not)
        self.host_sigma = host_sigma  # standard deviation of the host times' logarithm
        self._decode_terms = [(t.windowed, t.knots, t.rows, t.tabulate) for t in decode]
        self._mixed_terms = [(t.windowed, t.knots, t.rows, t.tabulate) for t in self.mixed_decode]
        self._linear, self._head = rows.linear_s, rows.head_s  # lists: (rows,) and (samples,), seconds

    def price(self, load: ChunkLoad, decodes: int, padding: int, pool: DecodePool) -> tuple[float, float, int]:
        """Seconds of the next step, how many more each following one takes, and for how many steps that holds.

        load: the step's chunks (for a step to repeat there is at most one, which moves on through its prompt).
        decodes, padding: decoding sequences, and finished ones whose rows are still computed.
        """
        samples = decodes + padding
        rows = load.tokens + samples
        samples += load.chunks
        if rows >= len(self._linear) or samples >= len(self._head):
            self.rows.grow(rows, samples)
        seconds = self._linear[rows] + self._head[samples]
        slope, steps = 0.0, UNLIMITED
        if decodes:
            for windowed, knots, table, tabulate in self._mixed_terms if load.tokens else self._decode_terms:
                growth = pool.window_growth if windowed else decodes
                context = (pool.window_context if windowed else pool.context) + growth
                row = table.get(decodes) or tabulate(decodes)
                start, end, value, per_token = row[bisect_right(knots, context / decodes) - 1]
                seconds += value + per_token * (context - start)
                if growth:
                    slope += per_token * growth
                    valid = ceil((end - context) / growth)  # the step that reaches a knot starts an interval
                    steps = min(steps, valid)
        if load.tokens:
            for part in self.prefill:
                more, more_slope, valid = self._price_chunks(part, load)
                seconds += more
                slope += more_slope
                steps = min(steps, valid)
        floor = self.eager_floor_s if load.tokens else self.decode_floor_s
        if seconds < floor:
            if slope > 0.0:
                steps = min(steps, int((floor - seconds) / slope) + 1)
            seconds, slope = floor, 0.0
        return seconds + self.host_s_per_step + self.host_s_per_sequence * samples, slope, steps

    def _price_chunks(self, part: PrefillTerm, load: ChunkLoad) -> tuple[float, float, int]:
        new = load.tokens
        if not part.windowed:
            return part.price(new, load.chunks, load.pairs, load.context, new * new, new)
        pairs, context = load.window_pairs, load.window_context
        if load.chunks == 1 and load.before >= self.window - 1:
            return part.price(new, 1, pairs, context, 0, 0)
        seconds, slope, steps = part.price(new, load.chunks, pairs, context, new * new, new)
        growing = max(1, (self.window - load.before) // new) if load.chunks == 1 else 1
        return seconds, slope, min(steps, growing)
