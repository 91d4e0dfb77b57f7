"""The order of measuring: coarse grids of all kinds before any refinement, kinds taking fair turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from calibration.measure.point import Point


def interleave(points: Iterable[Point]) -> list[Point]:
    """Points by level; within a level each kind is spread evenly, so that a cut leaves equal shares of every kind.

    A point that occurs twice keeps its first, lowest level. Ties stand in the order given.
    """
    unique: dict[tuple[str, ...], Point] = {}
    for point in sorted(points, key=lambda point: point.level):
        unique.setdefault(point.key, point)
    totals = Counter((point.level, point.kind) for point in unique.values())
    seen: Counter[tuple[int, str]] = Counter()
    placed: list[tuple[int, float, int, Point]] = []
    for point in unique.values():
        group = (point.level, point.kind)
        placed.append((point.level, (seen[group] + 0.5) / totals[group], len(placed), point))
        seen[group] += 1
    return [point for *_, point in sorted(placed, key=lambda entry: entry[:3])]
