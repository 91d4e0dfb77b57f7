"""Prompts that share their opening with an earlier one: block hashes for given prompt lengths.

Each prompt reuses the first k blocks of one earlier prompt and goes its own way after. k comes from the measured share
of reused blocks at that prompt's length, and which prompt from the measured distance back. So an endless cache sees
the measured hit rate, and a finite one meets reuse at the measured distances; who shares with whom is made up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workloads.generators import check
from workloads.randomness import stream
from workloads.request import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedPrefixes:
    """Tables of reuse: `reused_fraction[b]` (quantiles at `probabilities`) for prompts up to `up_to_tokens[b]`.

    `distance` holds the quantiles, in requests, of how far back the reused prompt lies.
    """

    prefix_block_tokens: int
    up_to_tokens: Sequence[int]
    probabilities: Sequence[float]
    reused_fraction: Sequence[Sequence[float]]
    distance: Sequence[float]

    def __post_init__(self) -> None:
        check.whole("prefix_block_tokens", self.prefix_block_tokens)
        check.rising("probabilities", self.probabilities, strictly=True, least=0)
        for table in (*self.reused_fraction, self.distance):
            check.rising("reused_fraction or distance", table, strictly=False, least=0)
            check.same_length("probabilities", self.probabilities, "the table", table)
        check.same_length("up_to_tokens", self.up_to_tokens, "reused_fraction", self.up_to_tokens)

    def hashes(self, seed: int, prompt_tokens: IntArray) -> list[tuple[int, ...]]:
        """Block hashes of every prompt, the last block counting even where it is not full."""
        blocks = -(-prompt_tokens // self.prefix_block_tokens)
        reused = self._reused(seed, prompt_tokens, blocks).tolist()
        u = stream(seed, "prefixes/distance").random(blocks.size)
        distance = np.maximum(np.rint(np.interp(u, self.probabilities, self.distance)), 1).astype(int).tolist()
        by_size: dict[int, list[int]] = {}
        made: list[tuple[int, ...]] = []
        fresh = 0
        for i, (count, wanted) in enumerate(zip(blocks.tolist(), reused, strict=True)):
            opening: tuple[int, ...] = ()
            if wanted:
                parent = _nearest(by_size, made, i - distance[i], wanted)
                opening = made[parent][:wanted] if parent >= 0 else ()
            own = count - len(opening)
            made.append((*opening, *range(fresh, fresh + own)))
            fresh += own
            by_size.setdefault(count.bit_length(), []).append(i)
        return made

    def _reused(self, seed: int, prompt_tokens: IntArray, blocks: IntArray) -> IntArray:
        """Blocks each prompt shares with an earlier one."""
        u = stream(seed, "prefixes/reused").random(blocks.size)
        bins = np.minimum(np.searchsorted(self.up_to_tokens, prompt_tokens), len(self.up_to_tokens) - 1)
        fraction = np.empty(blocks.size)
        for b, table in enumerate(self.reused_fraction):
            mine = bins == b
            fraction[mine] = np.interp(u[mine], self.probabilities, table)
        return np.minimum(np.rint(fraction * blocks), blocks).astype(np.int64)


def _nearest(by_size: dict[int, list[int]], made: list[tuple[int, ...]], target: int, wanted: int) -> int:
    """The request nearest to `target` with at least `wanted` blocks, or -1; `by_size` is keyed by bit length."""
    best, gap = -1, 1 << 62
    for size in range(wanted.bit_length(), 40):
        members = by_size.get(size)
        if not members:
            continue
        start = bisect_left(members, target)
        for step in range(64):  # within one size some are too short
            for at in (start - 1 - step, start + step):
                if not 0 <= at < len(members) or abs(members[at] - target) >= gap:
                    continue
                if len(made[members[at]]) >= wanted:
                    best, gap = members[at], abs(members[at] - target)
            if gap <= step:
                break
    return best
