"""Laws of prompt and output lengths, each by its inverse distribution function: one uniform draw a length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from hardware_models.errors import FleetcastError
from workloads.generators import check
from workloads.request import FloatArray, IntArray

Z99 = 2.3263478740408408  # the standard normal's 99th percentile


class Lengths(Protocol):
    """A law of lengths in tokens."""

    def at(self, u: FloatArray) -> IntArray:
        """Lengths at the given ranks in [0, 1); never falls with u."""
        ...


def _tokens(values: FloatArray, least: float = 1, most: float | None = None) -> IntArray:
    return np.clip(np.rint(values), least, most).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every length is `tokens`."""

    tokens: int

    def __post_init__(self) -> None:
        check.whole("tokens", self.tokens)

    def at(self, u: FloatArray) -> IntArray:
        """Lengths at the given ranks."""
        return np.full(u.shape, self.tokens, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Whole numbers from `min_tokens` to `max_tokens`, both included, all as likely."""

    min_tokens: int
    max_tokens: int

    def __post_init__(self) -> None:
        check.whole("min_tokens", self.min_tokens)
        check.whole("max_tokens", self.max_tokens, least=self.min_tokens)

    def at(self, u: FloatArray) -> IntArray:
        """Lengths at the given ranks."""
        return self.min_tokens + np.floor(u * (self.max_tokens - self.min_tokens + 1)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lognormal:
    """Log-normal lengths by `mean` and `std`, or by `p50` and `p99` (all tokens), clipped to the limits."""

    mean: float | None = None
    std: float | None = None
    p50: float | None = None
    p99: float | None = None
    min_tokens: int = 1
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        check.whole("min_tokens", self.min_tokens)
        if self.max_tokens is not None:
            check.whole("max_tokens", self.max_tokens, least=self.min_tokens)
        moments = self.mean is not None and self.std is not None
        quantiles = self.p50 is not None and self.p99 is not None
        given = sum(value is not None for value in (self.mean, self.std, self.p50, self.p99))
        if given != 2 or not (moments or quantiles):
            raise FleetcastError("lognormal: give either mean and std, or p50 and p99")
        if moments:
            check.number("mean", self.mean, above=0)
            check.number("std", self.std, least=0)
        else:
            check.number("p50", self.p50, above=0)
            check.number("p99", self.p99, least=self.p50 or 0)

    def _parameters(self) -> tuple[float, float]:
        if self.mean is not None and self.std is not None:
            variance = math.log1p((self.std / self.mean) ** 2)
            return math.log(self.mean) - variance / 2, math.sqrt(variance)
        p50, p99 = self.p50 or 1.0, self.p99 or 1.0
        return math.log(p50), math.log(p99 / p50) / Z99

    def at(self, u: FloatArray) -> IntArray:
        """Lengths at the given ranks."""
        mu, sigma = self._parameters()
        return _tokens(np.exp(mu + sigma * ndtri(np.clip(u, 1e-16, 1 - 1e-16))), self.min_tokens, self.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Empirical:
    """A quantile table: `tokens` at `probabilities`, linear between and level beyond, so it never falls."""

    probabilities: Sequence[float]
    tokens: Sequence[float]

    def __post_init__(self) -> None:
        check.rising("probabilities", self.probabilities, strictly=True, least=0)
        check.number("probabilities", self.probabilities[-1], most=1)
        check.rising("tokens", self.tokens, strictly=False, least=1)
        check.same_length("probabilities", self.probabilities, "tokens", self.tokens)

    def at(self, u: FloatArray) -> IntArray:
        """Lengths at the given ranks."""
        return _tokens(np.interp(u, self.probabilities, self.tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Zipf:
    """The k-th length from `min_tokens` up has a chance proportional to k^-theta, as in SARATHI's experiments."""

    min_tokens: int
    max_tokens: int
    theta: float = 0.6

    def __post_init__(self) -> None:
        check.whole("min_tokens", self.min_tokens)
        check.whole("max_tokens", self.max_tokens, least=self.min_tokens)
        check.number("theta", self.theta, least=0)

    def at(self, u: FloatArray) -> IntArray:
        """Lengths at the given ranks."""
        weights = np.arange(1, self.max_tokens - self.min_tokens + 2, dtype=np.float64) ** -self.theta
        cumulative = np.cumsum(weights)
        ranks = np.searchsorted(cumulative, u * cumulative[-1], side="right")
        return np.asarray(self.min_tokens + np.minimum(ranks, len(weights) - 1), dtype=np.int64)
