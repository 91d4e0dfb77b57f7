"""The joint law of prompt and output length: two marginal laws tied by their ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from workloads.generators import check
from workloads.generators.lengths import Lengths
from workloads.randomness import stream
from workloads.request import FloatArray, IntArray


def gaussian_ranks(u: FloatArray, w: FloatArray, rank_correlation: float) -> FloatArray:
    """Ranks whose Spearman correlation with the ranks `u` is as given, by a Gaussian copula from fresh uniforms `w`."""
    rho = 2 * np.sin(np.pi * rank_correlation / 6)  # Spearman to Pearson for normal scores
    inside = (1e-16, 1 - 1e-16)
    score = rho * ndtri(np.clip(u, *inside)) + np.sqrt(1 - rho * rho) * ndtri(np.clip(w, *inside))
    return np.asarray(ndtr(score), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Checkerboard:
    """A rank copula that is flat on equal cells: `weights[i][j]` ties the i-th prompt to the j-th output bin.

    Rows and columns are brought to equal sums (Sinkhorn), so both marginal laws stay exact. shape: (bins, bins)
    """

    weights: Sequence[Sequence[float]]

    def ranks(self, u: FloatArray, w: FloatArray) -> FloatArray:
        """Output ranks for the prompt ranks `u`, from fresh uniforms `w`."""
        matrix = np.asarray(self.weights, dtype=np.float64) + 1e-12
        for _ in range(500):
            matrix /= matrix.sum(axis=0, keepdims=True)
            matrix /= matrix.sum(axis=1, keepdims=True)
        bins = len(matrix)
        row = np.minimum((u * bins).astype(np.int64), bins - 1)
        edges = np.concatenate([np.zeros((bins, 1)), np.cumsum(matrix, axis=1)], axis=1)
        ranks = np.empty_like(w)
        for i in range(bins):
            mine = row == i
            ranks[mine] = np.interp(w[mine], edges[i], np.arange(bins + 1) / bins)
        return np.minimum(ranks, np.nextafter(1.0, 0.0))


def draw_lengths(
    seed: int,
    prefix: str,
    count: int,
    laws: tuple[Lengths, Lengths],
    tie: Checkerboard | float = 0.0,
) -> tuple[IntArray, IntArray]:
    """Draw prompt and output lengths from the streams "`prefix`prompt_tokens" and "`prefix`output_tokens".

    `tie` is a rank correlation or a checkerboard; a change of one law leaves the other's ranks as they were.
    """
    u = stream(seed, f"{prefix}prompt_tokens").random(count)
    w = stream(seed, f"{prefix}output_tokens").random(count)
    if isinstance(tie, Checkerboard):
        v = tie.ranks(u, w)
    else:
        check.number("rank_correlation", tie, least=-1, most=1)
        v = gaussian_ranks(u, w, tie) if tie else w
    return laws[0].at(u), laws[1].at(v)
