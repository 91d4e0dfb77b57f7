"""Which experts a fast tier keeps: caches of so many slots over all layers, told apart by whom they evict.

Each keeps a rank for every expert; the lowest of those held leaves, but none that is pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from workloads.generators.expert_activation import Scores


class ExpertCache:
    """Slots filled with the most popular experts at the start. Who ranks derives."""

    fixed: ClassVar[bool] = False  # what is held at the start stays
    choosy: ClassVar[bool] = False  # only what ranks above what would leave comes in

    def __init__(self, slots: int, popularity: Scores) -> None:
        self.held: NDArray[np.bool_] = np.zeros(popularity.shape, dtype=bool)
        self.pinned = np.zeros_like(self.held)  # what a layer at hand, or to come, needs
        self.rank = np.zeros(popularity.shape)
        self.clock = 0
        order = np.argsort(popularity, axis=None, kind="stable")[::-1][:slots]
        self.held.flat[order] = True

    def has(self, layer: int, expert: int) -> bool:
        """Is it there?"""
        return bool(self.held[layer, expert])

    def note(self, layer: int, loads: Mapping[int, int], scores: Scores) -> None:
        """A layer has routed: tokens of each expert, and the scores (tokens, experts)."""
        self.clock += 1

    def admit(self, layer: int, expert: int) -> bool:
        """Take an expert in, and another out that is not pinned; False where it may not stay."""
        if self.fixed or self.held[layer, expert]:
            return bool(self.held[layer, expert])
        ranks = np.where(self.held & ~self.pinned, self.rank, np.inf)
        out = int(np.argmin(ranks))
        if not np.isfinite(ranks.flat[out]) or (self.choosy and self.rank[layer, expert] <= ranks.flat[out]):
            return False
        self.held.flat[out] = False
        self.held[layer, expert] = True
        self.arrived(layer, expert)
        return True

    def arrived(self, layer: int, expert: int) -> None:
        """An expert has just been taken in."""


class StaticCache(ExpertCache):
    """The most popular experts for ever (KTransformers)."""

    fixed = True


class LruCache(ExpertCache):
    """Out goes what was used longest ago."""

    def note(self, layer: int, loads: Mapping[int, int], scores: Scores) -> None:
        """The time of use is the rank."""
        super().note(layer, loads, scores)
        self.rank[layer, list(loads)] = self.clock

    def arrived(self, layer: int, expert: int) -> None:
        """As if used now: it is to be."""
        self.rank[layer, expert] = self.clock


class LfuCache(ExpertCache):
    """Out goes what the fewest tokens used."""

    def note(self, layer: int, loads: Mapping[int, int], scores: Scores) -> None:
        """Tokens so far are the rank."""
        super().note(layer, loads, scores)
        self.rank[layer, list(loads)] += list(loads.values())


class LifoCache(ExpertCache):
    """Out goes what came last, so that passes over all layers keep some (expert buffering, arXiv 2303.06182)."""

    def arrived(self, layer: int, expert: int) -> None:
        """The later, the lower."""
        self.clock += 1
        self.rank[layer, expert] = -self.clock


class ScoreCache(ExpertCache):
    """Out goes the lowest moving average of routing scores, of the best 2 k of a layer (HybriMoE, arXiv 2504.05897)."""

    SHARE = 0.25  # of the newest scores in the average; assumed
    choosy = True

    def __init__(self, slots: int, popularity: Scores) -> None:
        super().__init__(slots, popularity)
        self.rank = _shares(popularity)

    def note(self, layer: int, loads: Mapping[int, int], scores: Scores) -> None:
        """Scores are shares of one, of the experts of a layer."""
        super().note(layer, loads, scores)
        shares = _shares(scores)
        visits = sum(loads.values()) // len(scores)
        kept = min(2 * visits, scores.shape[1])
        least = np.partition(shares, -kept, axis=1)[:, -kept][:, None]
        mean = np.where(shares >= least, shares, 0.0).mean(axis=0)
        self.rank[layer] = (1.0 - self.SHARE) * self.rank[layer] + self.SHARE * mean


def _shares(scores: Scores) -> Scores:
    """Scores of each row as shares of one (softmax)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


CACHES: dict[str, type[ExpertCache]] = {
    "static": StaticCache,
    "lru": LruCache,
    "lfu": LfuCache,
    "lifo": LifoCache,
    "score": ScoreCache,
}
