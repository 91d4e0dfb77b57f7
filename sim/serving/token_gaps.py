"""The distribution of gaps between tokens over all tokens, from runs: neither tokens nor steps are gone through one by
one.

A day of a row has a hundred million steps in ten million runs. The steps of a run take evenly rising times, so sums
over them have a closed form, and a percentile only needs the steps of those runs that it may lie in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EVERY = slice(None)


@dataclass(frozen=True)
class TokenGaps:
    """Series of gaps: the i-th (from 1) of a series' `count` is base_s + i x slope_s, and `weight` tokens had it."""

    base_s: Floats  # (series,) each
    slope_s: Floats  # never negative
    count: Floats
    weight: Floats

    @cached_property
    def tokens(self) -> float:
        """How many had a gap before them."""
        return float((self.count * self.weight).sum())

    @cached_property
    def total_s(self) -> float:
        """Of all tokens' gaps."""
        n = self.count
        return float((self.weight * (n * self.base_s + 0.5 * n * (n + 1.0) * self.slope_s)).sum())

    @property
    def longest_s(self) -> float:
        """Of any token."""
        return float(self._last_s.max())

    @property
    def mean_s(self) -> float:
        """Over tokens."""
        return self.total_s / self.tokens

    @property
    def std_s(self) -> float:
        """Over tokens: of each series' mean from that of all, and of its gaps from its mean; a sum of squares, which
        no rounding makes negative.
        """
        n, slope = self.count, self.slope_s
        off = self.base_s + 0.5 * (n + 1.0) * slope - self.mean_s
        squares = n * off * off + n * (n * n - 1.0) / 12.0 * slope * slope
        return float(np.sqrt((self.weight * squares).sum() / self.tokens))

    @property
    def _first_s(self) -> Floats:
        return np.asarray(self.slope_s + self.base_s)

    @property
    def _last_s(self) -> Floats:
        return np.asarray(self.count * self.slope_s + self.base_s)

    def percentiles(self, percents: Floats) -> Floats:
        """The smallest gap with at least each percentage of the tokens at or below it: (percents,)."""
        wanted = np.asarray(percents) / 100.0 * self.tokens
        first, last, tokens = self._first_s, self._last_s, self.count * self.weight
        lower = _reached(first, tokens, wanted)  # were all of a series as short as its first, or as long as its last
        upper = _reached(last, tokens, wanted)
        found = []
        for target, least, most in zip(wanted, lower, upper, strict=True):
            within = np.flatnonzero((last >= least) & (first <= most))
            gaps, weights = self.each(within)
            below = float(tokens[last < least].sum())
            found.append(_reached(gaps, weights, np.array([target]), below)[0])
        return np.array(found)

    def each(self, series: NDArray[np.int64] | slice = EVERY) -> tuple[Floats, Floats]:
        """Every gap of some series, and how many tokens had it."""
        count = self.count[series].astype(np.int64)
        i = 1.0 + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        gaps = i * np.repeat(self.slope_s[series], count) + np.repeat(self.base_s[series], count)
        return gaps, np.repeat(self.weight[series], count)


def _reached(values: Floats, weights: Floats, wanted: Floats, below: float = 0.0) -> Floats:
    """The smallest value at which the weight up to it, with what is `below` all, is at least each one wanted."""
    order = np.argsort(values)
    so_far = below + np.cumsum(weights[order])
    at = np.searchsorted(so_far, wanted, side="left")
    return np.asarray(values[order[np.minimum(at, len(values) - 1)]])


def token_gaps(runs: dict[str, Floats], joiner_gaps: Floats) -> TokenGaps:
    """Of all tokens but each request's first: a run's first gap apart, which may hold other work before its step."""
    met = np.flatnonzero((runs["decode_seqs"] > 0) & (runs["gap_seqs"] > 0))
    later = np.flatnonzero((runs["decode_seqs"] > 0) & (runs["iterations"] > 1))
    lone = np.ones(len(met) + len(joiner_gaps))
    return TokenGaps(
        np.concatenate([runs["gap_s"][met], joiner_gaps, runs["first_s"][later]]),
        np.concatenate([0.0 * lone, runs["slope_s"][later]]),
        np.concatenate([lone, runs["iterations"][later] - 1.0]),
        np.concatenate([runs["gap_seqs"][met], np.ones(len(joiner_gaps)), runs["decode_seqs"][later]]),
    )
