"""What one step of an engine costs at least, as a table over its prompt tokens and decoding sequences.

Read off the engine's own tables: rows(p + d) + head + host + the start of decode attention, made to never fall with p
or d (a larger step may be cheaper in the model where a kernel's tiles come out even; then it stands for the smaller
ones too). What attention costs a token of context comes on top, see `StageFloor.per_context`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.serving.step_cost import DecodeTerm, StageCost

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TABLED_ROWS = 8192  # rows whose price is read off the engine's table; beyond, arithmetic at peak bounds it
TABLED_DECODES = 2048  # sequences whose attention is; steps of more are taken to have none
TINY = 1e-30


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What a step may hold at most."""

    rows: int  # prompt and decoded tokens together
    decodes: int
    mixes: bool  # prompts and decodes in one step
    kv_tokens: int  # context of all decoding sequences
    longest: int  # tokens of one sequence, prompt and output


class StageFloor:
    """Least seconds of steps on one pipeline stage."""

    def __init__(self, stage: StageCost, limits: StepLimits, peak_row_s: float) -> None:
        """peak_row_s: seconds a row of matrix products takes at peak arithmetic, for rows beyond TABLED_ROWS."""
        self.limits = limits
        self.tabled = min(limits.rows, TABLED_ROWS)
        stage.rows.grow(self.tabled, limits.decodes + 1)
        linear = np.asarray(stage.rows.linear_s[: self.tabled + 1])
        beyond = peak_row_s * (self.tabled + 1) if limits.rows > self.tabled else np.inf
        self._linear = _never_falling(np.append(linear, beyond))[:-1]
        self._head = _never_falling(np.asarray(stage.rows.head_s[: limits.decodes + 2]))
        self._peak_row_s = peak_row_s
        self._host = stage.host_s_per_step, stage.host_s_per_sequence
        self._launches = stage.eager_floor_s, stage.decode_floor_s
        self.per_context = self.per_window = 0.0  # seconds of attention a token of (windowed) context, at least
        self._alone, self._mixed = np.zeros((2, limits.decodes + 1))
        if limits.decodes <= TABLED_DECODES:
            for alone, mixed in zip(stage.decode, stage.mixed_decode, strict=True):
                self._add_attention(alone, mixed)

    def _add_attention(self, alone: DecodeTerm, mixed: DecodeTerm) -> None:
        """Least seconds a token of context, and what is left of a step's seconds above them, by sequences.

        Between two knots the seconds are a line in the context, so both are least on a knot.
        """
        knots = np.asarray(alone.knots)
        last = int(np.searchsorted(knots, self.limits.longest))
        if last == len(knots):
            return  # contexts beyond the last knot: none is claimed
        counts = range(1, self.limits.decodes + 1)
        tables = [np.array([_at_knots(term, n, last) for n in counts]) for term in _distinct(alone, mixed)]
        slope = min(float((t[:, :, 1] / np.maximum(t[:, :, 0], TINY)).min()) for t in tables)
        rest = [_never_falling((t[:, :, 1] - slope * t[:, :, 0]).min(axis=1)) for t in tables]
        if alone.windowed:
            self.per_window += slope
        else:
            self.per_context += slope
        self._alone[1:] += rest[0]
        self._mixed[1:] += rest[-1]

    def at_least(self, prompt: Ints, decodes: Ints, *, launching: bool) -> Floats:
        """Seconds of steps, broadcast; neither prompt nor decodes make a step cheaper.

        launching: the host's time to launch kernels one by one where it is the longer, and no attention; else attention
        and no such time. A step takes the longer of the two, so each holds and their sum would not.
        """
        rows, samples = prompt + decodes, decodes + (prompt > 0)
        linear = np.where(rows <= self.tabled, self._linear[np.minimum(rows, self.tabled)], self._peak_row_s * rows)
        seconds = linear + self._head[samples]
        if launching:
            seconds = np.maximum(seconds, np.where(prompt > 0, *self._launches))
        else:
            seconds = seconds + np.where(prompt > 0, self._mixed[decodes], self._alone[decodes])
        return np.asarray(seconds + self._host[0] + self._host[1] * samples)

    def shortest_s(self, prompt: int, decodes: int) -> float:
        """No step with so many prompt tokens and decoding sequences, or more of either, is shorter."""
        p, d = np.array([prompt, max(prompt, 1)]), np.array([max(decodes, 1 - prompt), decodes])
        return max(float(self.at_least(p, d, launching=launching).min()) for launching in (False, True))


def _never_falling(seconds: Floats) -> Floats:
    """The least of each entry and all after it."""
    return np.asarray(np.minimum.accumulate(seconds[::-1])[::-1])


def _distinct(alone: DecodeTerm, mixed: DecodeTerm) -> list[DecodeTerm]:
    return [alone] if mixed is alone else [alone, mixed]


def _at_knots(term: DecodeTerm, sequences: int, last: int) -> list[tuple[float, float]]:
    """(total context, seconds) at each knot up to index `last`."""
    row = term.rows.get(sequences) or term.tabulate(sequences)
    return [(start, value) for start, _, value, _ in row[: last + 1]]
