"""Arrival processes: when requests come, in seconds from 0, as renewal processes on a plain or a warped clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
from scipy.special import gamma as gamma_function
from scipy.special import ndtr

from workloads.generators import check
from workloads.generators.profile import Profile
from workloads.request import FloatArray

Draw = Callable[[int], FloatArray]


class Arrivals(Protocol):
    """A law of arrival times."""

    def times(
        self, rng: np.random.Generator, *, duration_s: float | None = None, num_requests: int | None = None
    ) -> FloatArray:
        """Sorted arrivals before `duration_s`, at most `num_requests`; a longer draw begins with a shorter one."""
        ...


def renewal(
    draw: Draw,
    rate: float,
    *,
    duration_s: float | None,
    num_requests: int | None,
    shape: Callable[[FloatArray], FloatArray] | None = None,
) -> FloatArray:
    """Sum up gaps until the time or the count is reached; `shape` makes gaps of the raw draws, where given."""
    check.extent("arrivals", duration_s, num_requests)
    expected = min(math.inf if duration_s is None else rate * duration_s, num_requests or math.inf)
    check.affordable(expected)
    raw = draw(num_requests if duration_s is None and num_requests else int(expected * 1.05) + 64)
    while True:
        arrival = np.cumsum(raw if shape is None else shape(raw))
        if (num_requests and len(arrival) >= num_requests) or (duration_s is not None and arrival[-1] >= duration_s):
            break
        check.affordable(len(raw))
        raw = np.concatenate([raw, draw(len(raw))])
    if duration_s is not None:
        arrival = arrival[: np.searchsorted(arrival, duration_s, side="left")]
    return arrival[:num_requests]


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson:
    """Exponential gaps at `request_rate` (per s)."""

    request_rate: float

    def __post_init__(self) -> None:
        check.number("request_rate", self.request_rate, above=0)

    def times(
        self, rng: np.random.Generator, *, duration_s: float | None = None, num_requests: int | None = None
    ) -> FloatArray:
        """Arrivals in seconds."""
        mean = 1.0 / self.request_rate
        draw: Draw = lambda count: rng.exponential(mean, count)  # noqa: E731
        return renewal(draw, self.request_rate, duration_s=duration_s, num_requests=num_requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma:
    """Gamma gaps of shape `burstiness`, as vLLM's benchmark has it: 1 is Poisson, lower is burstier (CV^2 = 1/it)."""

    request_rate: float
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        check.number("request_rate", self.request_rate, above=0)
        check.number("burstiness", self.burstiness, above=0)

    def times(
        self, rng: np.random.Generator, *, duration_s: float | None = None, num_requests: int | None = None
    ) -> FloatArray:
        """Arrivals in seconds."""
        scale = 1.0 / (self.request_rate * self.burstiness)
        draw: Draw = lambda count: rng.gamma(self.burstiness, scale, count)  # noqa: E731
        return renewal(draw, self.request_rate, duration_s=duration_s, num_requests=num_requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weibull:
    """Weibull gaps of the given `shape`: 1 is Poisson, lower is burstier."""

    request_rate: float
    shape: float = 1.0

    def __post_init__(self) -> None:
        check.number("request_rate", self.request_rate, above=0)
        check.number("shape", self.shape, least=0.05)

    def times(
        self, rng: np.random.Generator, *, duration_s: float | None = None, num_requests: int | None = None
    ) -> FloatArray:
        """Arrivals in seconds."""
        scale = 1.0 / (self.request_rate * float(gamma_function(1.0 + 1.0 / self.shape)))
        draw: Draw = lambda count: scale * rng.weibull(self.shape, count)  # noqa: E731
        return renewal(draw, self.request_rate, duration_s=duration_s, num_requests=num_requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One request every 1/`request_rate` seconds, the first after one gap."""

    request_rate: float

    def __post_init__(self) -> None:
        check.number("request_rate", self.request_rate, above=0)

    def times(
        self,
        rng: np.random.Generator,
        *,
        duration_s: float | None = None,
        num_requests: int | None = None,
    ) -> FloatArray:
        """Arrivals in seconds."""
        draw: Draw = lambda count: np.full(count, 1.0 / self.request_rate)  # noqa: E731
        return renewal(draw, self.request_rate, duration_s=duration_s, num_requests=num_requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmpiricalGaps:
    """Gaps from a quantile table (`gaps`, any unit, at `probabilities`), scaled to `request_rate`, with a memory.

    The gaps' normal scores are a first-order autoregression (share `memory_fraction` of their variance, lag-one
    correlation `memory_persistence`) plus white noise: the table fixes the law of one gap, so its CV, and the memory
    how short gaps keep together, so the dispersion of counts.
    """

    request_rate: float
    probabilities: Sequence[float]
    gaps: Sequence[float]
    memory_fraction: float = 0.0
    memory_persistence: float = 0.0

    def __post_init__(self) -> None:
        check.number("request_rate", self.request_rate, above=0)
        check.rising("probabilities", self.probabilities, strictly=True, least=0)
        check.number("probabilities", self.probabilities[-1], most=1)
        check.rising("gaps", self.gaps, strictly=False, least=0)
        check.number("gaps", self.gaps[-1], above=0)
        check.same_length("probabilities", self.probabilities, "gaps", self.gaps)
        check.number("memory_fraction", self.memory_fraction, least=0, most=1)
        check.number("memory_persistence", self.memory_persistence, least=0, most=0.9999)

    def _table(self) -> tuple[FloatArray, FloatArray]:
        p = np.concatenate([[0.0], self.probabilities, [1.0]])
        gaps = np.concatenate([[self.gaps[0]], self.gaps, [self.gaps[-1]]])
        mean = float(np.sum(np.diff(p) * (gaps[1:] + gaps[:-1]) / 2))
        return p, gaps / mean

    def cv(self) -> float:
        """Coefficient of variation of one gap, in closed form."""
        p, gaps = self._table()
        square = float(np.sum(np.diff(p) * (gaps[1:] ** 2 + gaps[1:] * gaps[:-1] + gaps[:-1] ** 2) / 3))
        return math.sqrt(max(square - 1.0, 0.0))

    def times(
        self, rng: np.random.Generator, *, duration_s: float | None = None, num_requests: int | None = None
    ) -> FloatArray:
        """Arrivals in seconds."""
        p, gaps = self._table()
        phi, share = self.memory_persistence, self.memory_fraction

        def shape(raw: FloatArray) -> FloatArray:
            noise = (math.sqrt(1 - phi * phi) * raw[1:, 0]).tolist()  # begins in its steady state
            slow = np.fromiter(accumulate(noise, lambda last, new: new + phi * last, initial=raw[0, 0]), float)
            score = math.sqrt(share) * slow + math.sqrt(1 - share) * raw[:, 1]
            return np.interp(ndtr(score), p, gaps) / self.request_rate

        draw: Draw = lambda count: rng.standard_normal((count, 2))  # noqa: E731
        return renewal(draw, self.request_rate, duration_s=duration_s, num_requests=num_requests, shape=shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateProfile:
    """A rate that changes linearly between the points (`t_s`, `request_rate`), with gamma gaps on the warped clock.

    `period_s` repeats the profile (86_400: a day); without it the last rate holds for ever. `burstiness` is the gamma
    shape as in `Gamma`; 1 gives the inhomogeneous Poisson process.
    """

    t_s: Sequence[float]
    request_rate: Sequence[float]
    period_s: float | None = None
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        check.number("burstiness", self.burstiness, above=0)
        self.profile()

    def profile(self) -> Profile:
        """The clock's warp."""
        return Profile(t_s=self.t_s, request_rate=self.request_rate, period_s=self.period_s)

    def times(
        self, rng: np.random.Generator, *, duration_s: float | None = None, num_requests: int | None = None
    ) -> FloatArray:
        """Arrivals in seconds."""
        return self.profile().warp(
            Gamma(request_rate=1.0, burstiness=self.burstiness), rng, duration_s=duration_s, num_requests=num_requests
        )
