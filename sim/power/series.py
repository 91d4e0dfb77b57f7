"""Watts over time, constant between the instants at which they change; sums, means and peaks are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardware_models.errors import FleetcastError

Floats = NDArray[np.float64]
ROUNDING = 1e-9  # of a period, that a whole number of them may be off


@dataclass(frozen=True, slots=True, eq=False)
class PowerSeries:
    """`watts[i]` from `t_s[i]` to `t_s[i + 1]`; rising instants, none twice."""

    t_s: Floats  # (changes + 1,)
    watts: Floats  # (changes,)
    _joules: Floats  # since the start, at t_s

    @classmethod
    def of(cls, t_s: ArrayLike, watts: ArrayLike) -> Self:
        """Intervals of no length are left out; raises FleetcastError where instants fall, or watts are no numbers."""
        t, w = np.asarray(t_s, float), np.asarray(watts, float)
        if t.ndim != 1 or w.ndim != 1 or len(t) != len(w) + 1:
            raise FleetcastError(f"watts of {len(w)} intervals need {len(w) + 1} instants, not {len(t)}")
        lengths = np.diff(t)
        if not np.all(lengths >= 0.0) or not np.all(np.isfinite(w)) or not np.all(np.isfinite(t)):
            raise FleetcastError("a power series needs rising instants and finite watts")
        kept = lengths > 0.0
        if not kept.any():
            raise FleetcastError("a power series needs an interval longer than 0 s")
        t, w = np.append(t[:-1][kept], t[-1]), w[kept]
        return cls(t, w, np.concatenate([[0.0], np.cumsum(np.diff(t) * w)]))

    @classmethod
    def total(cls, series: Sequence[PowerSeries]) -> Self:
        """Of servers, their rack; of racks, the row. All must start and end together."""
        if not series:
            raise FleetcastError("a total needs at least one power series")
        if len({(one.start_s, one.end_s) for one in series}) > 1:
            raise FleetcastError("power series that are added up must start and end together")
        t_s = np.unique(np.concatenate([one.t_s for one in series]))
        watts = np.zeros(len(t_s) - 1)
        for one in series:
            watts += np.repeat(one.watts, np.diff(np.searchsorted(t_s, one.t_s)))
        return cls.of(t_s, watts)

    @property
    def start_s(self) -> float:
        """The first instant."""
        return float(self.t_s[0])

    @property
    def end_s(self) -> float:
        """The last instant."""
        return float(self.t_s[-1])

    @property
    def energy_j(self) -> float:
        """From start to end."""
        return float(self._joules[-1])

    @property
    def mean_w(self) -> float:
        """From start to end."""
        return self.energy_j / (self.end_s - self.start_s)

    def joules(self, t_s: ArrayLike) -> Floats:
        """From the start to each instant."""
        return np.asarray(np.interp(np.asarray(t_s, float), self.t_s, self._joules))

    def at(self, t_s: ArrayLike) -> Floats:
        """Watts at instants, after a change that falls on one; at the end, those before it."""
        index = np.searchsorted(self.t_s, np.asarray(t_s, float), side="right") - 1
        return np.asarray(self.watts[np.clip(index, 0, len(self.watts) - 1)])

    def peak_mean_w(self, window_s: float) -> float:
        """The highest mean over any window of this length; the mean of all, where that is shorter than the window.

        A mean over a sliding window has its peaks where one of the window's ends falls on a change.
        """
        if not window_s > 0.0:
            raise FleetcastError(f"window_s = {window_s:g}: give a window longer than 0 s")
        if window_s >= self.end_s - self.start_s:
            return self.mean_w
        last = self.end_s - window_s
        starts = np.concatenate([self.t_s, self.t_s - window_s])
        starts = np.clip(starts, self.start_s, last)
        peak = float(np.max(self.joules(starts + window_s) - self.joules(starts))) / window_s
        return min(peak, float(self.watts.max()))  # which no mean exceeds, but for rounding

    def percentile_w(self, percent: float) -> float:
        """The least watts that are not exceeded for this share of the time."""
        if not 0.0 <= percent <= 100.0:
            raise FleetcastError(f"percentile {percent:g}: give 0 to 100")
        order = np.argsort(self.watts, kind="stable")
        until_s = np.cumsum(np.diff(self.t_s)[order])
        index = int(np.searchsorted(until_s, percent / 100.0 * until_s[-1]))
        return float(self.watts[order[min(index, len(order) - 1)]])

    def seconds_above(self, watts: float) -> float:
        """How long more than these are drawn, in all."""
        return float(np.diff(self.t_s)[self.watts > watts].sum())

    def readings(self, period_s: float, averaging_s: float = 0.0, delay_s: float = 0.0) -> tuple[Floats, Floats]:
        """What telemetry says, and when: one reading a period, the mean of the last seconds, known after a delay.

        averaging_s = 0 reads the watts of the instant before. The first reading is one period after the start, or when
        the first mean is complete. Returns instants at which readings are known and watts: (readings,) each.
        """
        if not period_s > 0.0 or not averaging_s >= 0.0 or not delay_s >= 0.0:
            raise FleetcastError("telemetry needs a period above 0 s, and an averaging time and a delay not below")
        first = max(1, int(np.ceil(averaging_s / period_s - ROUNDING)))
        last = int(np.floor((self.end_s - self.start_s) / period_s + ROUNDING))
        taken_s = self.start_s + period_s * np.arange(first, last + 1)
        if averaging_s > 0.0:
            watts = (self.joules(taken_s) - self.joules(taken_s - averaging_s)) / averaging_s
        else:
            index = np.searchsorted(self.t_s, taken_s, side="left") - 1
            watts = self.watts[np.clip(index, 0, len(self.watts) - 1)]
        return np.asarray(taken_s + delay_s, np.float64), np.asarray(watts)
