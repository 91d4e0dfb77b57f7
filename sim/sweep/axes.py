"""Axes: the values that a key of the scenario takes in a sweep, as a list or as a range; and how settings are drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from workloads.randomness import stream

Method = Literal["grid", "list", "random", "lhs"]


@dataclass(frozen=True, slots=True)
class Choices:
    """Given values, in the order given."""

    key: str
    values: tuple[Any, ...]

    def levels(self) -> tuple[Any, ...]:
        """Values of a grid."""
        return self.values

    def at(self, share: float) -> Any:
        """Equal parts of 0..1, one a value."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from low to high, both of them possible."""

    key: str
    low: float
    high: float
    log: bool = False
    integer: bool = False
    points: int | None = None  # of a grid

    def levels(self) -> tuple[Any, ...]:
        """`points` values of a grid, evenly spaced (by ratio on a log scale); whole numbers that meet count once."""
        space = np.geomspace if self.log else np.linspace
        values = space(self.low, self.high, self.points or 1)
        values[-1] = self.high if len(values) > 1 else values[-1]
        return tuple(dict.fromkeys(round(v) if self.integer else float(v) for v in values))

    def at(self, share: float) -> float | int:
        """The value below which a share of the range lies; of whole numbers each has an equal part (on a log scale
        that of its logarithm).
        """
        low, high = (self.low, self.high + 1) if self.integer else (self.low, self.high)
        value = low * (high / low) ** share if self.log else low + share * (high - low)
        if self.integer:
            return min(math.floor(value), int(self.high))
        return float(min(max(value, low), high))


Axis = Choices | Range


def settings(axes: Sequence[Axis], method: Method, samples: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """One value an axis, in the axes' order; the same seed draws the same settings.

    grid: the product of levels, the last axis fastest. list: the n-th of every axis together. random: independent
    draws. lhs: a Latin hypercube (McKay, Beckman and Conover, Technometrics 21, 1979): of `samples` equal parts of
    every axis each holds one sample.
    """
    if method == "grid":
        yield from itertools.product(*(axis.levels() for axis in axes))
    elif method == "list":
        yield from zip(*(axis.levels() for axis in axes), strict=True)
    else:
        shares = _shares(method, len(axes), samples, seed)
        for row in shares:
            yield tuple(axis.at(float(share)) for axis, share in zip(axes, row, strict=True))


def count(axes: Sequence[Axis], method: Method, samples: int) -> int:
    """How many settings there are before constraints."""
    if method == "grid":
        return math.prod(len(axis.levels()) for axis in axes)
    return len(axes[0].levels()) if method == "list" else samples


def _shares(method: Method, axes: int, samples: int, seed: int) -> NDArray[np.float64]:
    """Where in each axis a sample lies, in 0..1: (samples, axes)."""
    random = stream(seed, f"sweep.{method}")
    if method == "random":
        return random.random((samples, axes))
    drawn: NDArray[np.float64] = qmc.LatinHypercube(axes, rng=random).random(samples)
    return drawn
