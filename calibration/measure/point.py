"""A point to measure, and what was read there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from calibration.measurement_kinds import KINDS, Value, cell

Key: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Values of a kind's key columns; points of a lower `level` are measured first (0: a coarse grid)."""

    kind: str
    values: Mapping[str, Value]
    level: int

    @property
    def key(self) -> Key:
        """Kind and cells as they stand in the file."""
        return (self.kind, *(cell(self.values[column.name]) for column in KINDS[self.kind].keys))

    def label(self) -> str:
        """One line for people: `m=16 n=4096 ...`."""
        return " ".join(f"{column.name}={cell(self.values[column.name])}" for column in KINDS[self.kind].keys)

    def count(self, name: str) -> int:
        """A whole-number value."""
        return int(self.values[name])

    def text(self, name: str) -> str:
        """A text value."""
        return str(self.values[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Median seconds, their interquartile range, how often it was timed, and the kind's further result columns."""

    seconds: float
    spread_s: float
    repeats: int
    more: Mapping[str, Value] = field(default_factory=dict)


Bench: TypeAlias = Callable[[Point, float], Sample]  # a point and the seconds that its timed part may take


class CannotMeasureError(Exception):
    """A point that this machine or its software has no way to measure; recorded as skipped."""
