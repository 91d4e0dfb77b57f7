"""The sizes of a machine that a plan depends on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from calibration.measure.point import Point
from calibration.measurement_kinds import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTarget:
    """A machine: its accelerator (or none), how many of them, and the CPU's threads."""

    is_gpu: bool
    sm_count: int = 1
    gpus: int = 0
    threads: int = 1
    link: str = "host"  # between the GPUs
    backend: str = "gloo"  # of collectives
    ranks: tuple[int, ...] = ()


def grid(kind: str, level: int, /, **axes: Any) -> Iterator[Point]:
    """Points over the product of `axes`; a single value stands for itself."""
    for values in product(*(axis if _many(axis) else (axis,) for axis in axes.values())):
        yield Point(kind=kind, values=dict(zip(axes, values, strict=True)), level=level)


def rows(kind: str, level: int, names: str, tuples: Iterable[tuple[Value, ...]], **fixed: Value) -> Iterator[Point]:
    """Points from tuples of the columns in `names` (space-separated), with `fixed` values beside."""
    for values in tuples:
        yield Point(kind=kind, values={**dict(zip(names.split(), values, strict=True)), **fixed}, level=level)


def _many(axis: Any) -> bool:
    return not isinstance(axis, str) and isinstance(axis, Iterable)
