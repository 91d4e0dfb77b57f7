"""The distribution of gaps between tokens over all tokens, rebuilt from runs without having touched each token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def token_gaps(runs: dict[str, Floats], joiner_gaps: Floats) -> tuple[Floats, Floats]:
    """Gap lengths, seconds, and how many tokens had each: both (distinct gaps,)."""
    decoding = runs["decode_seqs"] > 0
    first, first_weight = runs["gap_s"][decoding], runs["gap_seqs"][decoding]
    repeats = np.maximum(0, runs["iterations"][decoding] - 1).astype(np.int64)
    later = np.arange(int(repeats.sum()), dtype=np.float64)  # in place: a day of a row has a hundred million steps
    later -= np.repeat(np.cumsum(repeats) - repeats - 1, repeats)
    later *= np.repeat(runs["slope_s"][decoding], repeats)
    later += np.repeat(runs["first_s"][decoding], repeats)
    weight = np.repeat(runs["decode_seqs"][decoding], repeats)
    gaps = np.concatenate([first[first_weight > 0], joiner_gaps, later])
    weights = np.concatenate([first_weight[first_weight > 0], np.ones(len(joiner_gaps)), weight])
    return gaps, weights


def weighted_percentiles(values: Floats, weights: Floats, percents: Floats) -> Floats:
    """The smallest value with at least each percentage of the weight at or below it: (percents,); NaN for no values."""
    if not len(values):
        return np.full(len(percents), np.nan)
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    at = np.searchsorted(cumulative, np.asarray(percents) / 100.0 * cumulative[-1], side="left")
    return np.asarray(values[order][np.minimum(at, len(values) - 1)])
