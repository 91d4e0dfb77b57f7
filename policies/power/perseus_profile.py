"""What one pass through a pipeline stage takes, in seconds and joules, at each clock the GPU can be locked at.

A pass that ends early waits, and waiting draws `blocking_w`: what slowing it down is worth is its energy net of
`blocking_w` times its seconds (Perseus, Chung et al., arXiv 2312.06902, section 4). Of that, the lower convex hull of
the measured clocks is a function of time that clocks can follow, and a linear program can use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from hardware_models.errors import ImpossibleError

ROUNDED = 1e-6  # of an energy saved: points between others lie on lines but for that


class PassPoint(NamedTuple):
    """One pass of one GPU at a setting: a core clock, or a power limit."""

    setting: float  # MHz or watts, which is the same to all that follows but for the name: more is faster
    seconds: float
    joules: float

    def scaled(self, seconds: float, joules: float) -> PassPoint:
        """The same clock, with its seconds and joules times factors."""
        return PassPoint(self.setting, self.seconds * seconds, self.joules * joules)


class Curve(NamedTuple):
    """Net energy as a convex, falling, piecewise linear function of time: vertices from the slowest to the fastest."""

    seconds: tuple[float, ...]
    net_j: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PassProfile:
    """Of one pass, a point a clock, from the highest clock down; raises ImpossibleError for what no GPU does."""

    points: tuple[PassPoint, ...]

    def __post_init__(self) -> None:
        if not self.points or any(min(point) <= 0 for point in self.points):
            raise ImpossibleError("a stage's profile needs clocks, seconds and joules above 0, at least of one clock")
        if any(one.setting <= other.setting for one, other in pairwise(self.points)):
            raise ImpossibleError("a stage's profile needs its clocks from the highest down, each of them once")

    @classmethod
    def of(cls, setting: Sequence[float], seconds: Sequence[float], joules: Sequence[float]) -> PassProfile:
        """From columns, in any order of clocks."""
        if not len(setting) == len(seconds) == len(joules):
            raise ImpossibleError(
                f"a stage's profile has {len(setting)} clocks, {len(seconds)} times and {len(joules)} energies;"
                " give as many of each"
            )
        rows = zip(setting, seconds, joules, strict=True)
        return cls(tuple(sorted((PassPoint(*row) for row in rows), reverse=True)))

    @property
    def fastest(self) -> PassPoint:
        """At the clock that takes the least time; the cheaper where two take the same."""
        return min(self.points, key=lambda point: (point.seconds, point.joules))

    def scaled(self, seconds: float, joules: float) -> PassProfile:
        """Of a pass that takes so many times as long, and as much."""
        return PassProfile(tuple(point.scaled(seconds, joules) for point in self.points))

    def in_steps(self, step: float) -> PassProfile:
        """With clocks in between, on lines between those measured: GPUs take clocks in finer steps than profiles do."""
        points = [self.points[0]]
        for above, below in pairwise(self.points):
            steps = max(1, round((above.setting - below.setting) / step))
            points += [_between(above, below, step / steps) for step in range(1, steps + 1)]
        return PassProfile(tuple(points))

    def slowest_within(self, seconds: float) -> PassPoint:
        """The slowest clock that takes no longer, to which a planned time is rounded; the fastest where none does."""
        within = [point for point in self.points if point.seconds <= seconds * (1 + 1e-9)]
        return max(within, key=lambda point: (point.seconds, -point.joules)) if within else self.fastest

    def curve(self, blocking_w: float) -> Curve:
        """The lower convex hull of its points' net energy, from the least net energy to the fastest."""
        hull: list[tuple[float, float]] = []
        for point in sorted((one.seconds, one.joules - blocking_w * one.seconds) for one in self.points):
            if hull and point[1] >= hull[-1][1]:
                continue  # slower and no cheaper
            while len(hull) > 1 and _above(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        return Curve(tuple(time for time, _ in reversed(hull)), tuple(energy for _, energy in reversed(hull)))


def _between(above: PassPoint, below: PassPoint, share: float) -> PassPoint:
    return PassPoint(*(a + share * (b - a) for a, b in zip(above, below, strict=True)))


def _above(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Does the middle point lie on or above the line between the others, but for rounding?"""
    line = first[1] + (last[1] - first[1]) * (middle[0] - first[0]) / (last[0] - first[0])
    return middle[1] >= line - ROUNDED * (first[1] - last[1])
