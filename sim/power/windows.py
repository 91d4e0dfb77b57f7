"""Joules of GPUs sorted by server and by time, from runs of steps that begin and end anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """Consecutive intervals of time: `edges_s` are one rising instant more than there are windows."""

    edges_s: Floats

    @classmethod
    def of(cls, begin_s: float, duration_s: float, width_s: float) -> Windows:
        """As many of one width, at most `width_s`, as fill the duration."""
        count = max(1, int(np.ceil(duration_s / width_s)))
        return cls(begin_s + duration_s * np.arange(count + 1) / count)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.edges_s) - 1

    def spread(self, group: Counts, groups: int, start_s: Floats, end_s: Floats, joules: Floats) -> Floats:
        """Joules of each group in each window: (groups, windows).

        Each interval has a group, and draws its joules evenly from start to end (all in its first window where it has
        no length). They may overlap; what lies outside of all windows goes to the nearest.
        """
        inner = self.edges_s[1:-1]
        first = np.searchsorted(inner, start_s, side="right")
        last = np.maximum(np.searchsorted(inner, end_s, side="left"), first)
        cells = group * self.count + first
        inside = first == last
        sums = np.asarray(np.bincount(cells[inside], joules[inside], groups * self.count), float)
        if not inside.all():
            over = ~inside
            longer = (cells[over], first[over], last[over], start_s[over], end_s[over], joules[over])
            sums = sums + self._split(*longer, groups * self.count)
        return sums.reshape(groups, self.count)

    def _split(
        self, cell: Counts, first: Counts, last: Counts, start_s: Floats, end_s: Floats, joules: Floats, cells: int
    ) -> Floats:
        """Of intervals that end in a later window than they begin in: (cells,)."""
        pieces = last - first + 1
        which = np.repeat(np.arange(len(first)), pieces)
        later = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        window = first[which] + later
        opens = np.where(later == 0, start_s[which], self.edges_s[window])
        closes = np.where(window == last[which], end_s[which], self.edges_s[window + 1])
        share = (closes - opens) / (end_s - start_s)[which]
        return np.asarray(np.bincount(cell[which] + later, share * joules[which], cells), float)
