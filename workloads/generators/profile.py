"""A rate that changes with time, as a warp of the clock: unit-rate arrivals become arrivals at that rate.

Time rescaling (Brown et al., Neural Computation 14, 2002): with L(t) the integral of the rate, t = L^-1(s) turns a
process of rate 1 in s into one of the wanted rate in t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hardware_models.errors import FleetcastError
from workloads.generators import check
from workloads.request import FloatArray

if TYPE_CHECKING:
    from workloads.generators.arrivals import Arrivals


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Rates (per s) at times (s, from 0), linear between; beyond the end they repeat each `period_s` or stay."""

    t_s: Sequence[float]
    request_rate: Sequence[float]
    period_s: float | None = None

    def __post_init__(self) -> None:
        check.rising("t_s", self.t_s, strictly=True, least=0)
        check.same_length("t_s", self.t_s, "request_rate", self.request_rate)
        for rate in self.request_rate:
            check.number("request_rate", rate, least=0)
        check.number("request_rate", max(self.request_rate), above=0)
        if self.period_s is not None:
            check.number("period_s", self.period_s, least=float(self.t_s[-1]))

    def _knots(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Times, rates and their integral, from 0 to the period (or to the last point)."""
        t, rate = np.asarray(self.t_s, dtype=np.float64), np.asarray(self.request_rate, dtype=np.float64)
        if self.period_s is not None and (t[0] > 0 or t[-1] < self.period_s):
            wrap = t[0] + self.period_s - t[-1]
            at_zero = rate[0] + (rate[-1] - rate[0]) * (t[0] / wrap if wrap > 0 else 0.0)
            t, rate = _padded(t, rate, at_zero, self.period_s)
        elif t[0] > 0:
            t, rate = np.concatenate([[0.0], t]), np.concatenate([rate[:1], rate])
        area = np.concatenate([[0.0], np.cumsum(np.diff(t) * (rate[1:] + rate[:-1]) / 2)])
        return t, rate, area

    def mean_rate_per_s(self) -> float:
        """Mean rate over one period, or up to the last point."""
        t, _, area = self._knots()
        return float(area[-1] / t[-1])

    def integral(self, t_s: float) -> float:
        """Expected requests before `t_s`."""
        t, rate, area = self._knots()
        turns, rest = divmod(t_s, t[-1]) if self.period_s is not None else (0.0, t_s)
        i = min(int(np.searchsorted(t, rest, side="right")) - 1, len(t) - 1)
        x = rest - t[i]
        slope = (rate[i + 1] - rate[i]) / (t[i + 1] - t[i]) if i + 1 < len(t) else 0.0
        return float(turns * area[-1] + area[i] + rate[i] * x + slope * x * x / 2)

    def inverse(self, s: FloatArray) -> FloatArray:
        """Times by which `s` requests are expected."""
        t, rate, area = self._knots()
        turns = np.floor(s / area[-1]) if self.period_s is not None else np.zeros_like(s)
        rest = s - turns * area[-1]
        i = np.clip(np.searchsorted(area, rest, side="right") - 1, 0, len(t) - 1)
        following = np.minimum(i + 1, len(t) - 1)
        span = np.where(following > i, t[following] - t[i], 1.0)
        slope = (rate[following] - rate[i]) / span
        y = np.maximum(rest - area[i], 0.0)
        root = np.sqrt(np.maximum(rate[i] ** 2 + 2 * slope * y, 0.0))
        x = np.divide(2 * y, rate[i] + root, out=np.zeros_like(y), where=y > 0)
        inside = np.where(following > i, np.minimum(x, span), x)
        return np.asarray(turns * t[-1] + t[i] + inside, dtype=np.float64)

    def warp(
        self,
        unit_rate: Arrivals,
        rng: np.random.Generator,
        *,
        duration_s: float | None = None,
        num_requests: int | None = None,
    ) -> FloatArray:
        """Arrivals in seconds of a process whose own rate is 1, put on this clock."""
        check.extent("arrivals", duration_s, num_requests)
        horizon = None if duration_s is None else self.integral(duration_s)
        if horizon is not None and horizon <= 0:
            return np.empty(0)
        if horizon is None and self.period_s is None and self.request_rate[-1] == 0:
            raise FleetcastError(
                f"request_rate ends at 0 after {self.t_s[-1]:g} s, so num_requests may never come; "
                "give duration_s, period_s or a last rate above 0"
            )
        s = unit_rate.times(rng, duration_s=horizon, num_requests=num_requests)
        arrival = np.maximum.accumulate(self.inverse(s)) if s.size else s
        return arrival if duration_s is None else arrival[arrival < duration_s]


def _padded(t: FloatArray, rate: FloatArray, at_zero: float, period_s: float) -> tuple[FloatArray, FloatArray]:
    if t[0] > 0:
        t, rate = np.concatenate([[0.0], t]), np.concatenate([[at_zero], rate])
    if t[-1] < period_s:
        t, rate = np.concatenate([t, [period_s]]), np.concatenate([rate, [at_zero]])
    return t, rate
