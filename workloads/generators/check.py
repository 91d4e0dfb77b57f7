"""Checks of generator keys, worded alike: the key, its value and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hardware_models.errors import FleetcastError

MAX_REQUESTS = 20_000_000  # about 1.5 GB of columns; more is a slip of a unit or needs a lower rate


def number(key: str, value: Any, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> None:
    """Demand a finite number above `above`, at least `least` and at most `most`."""
    good = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
    if good and value > above and least <= value <= most:
        return
    limits = [f"above {above:g}"] if above > -math.inf else []
    limits += [f"at least {least:g}"] if least > -math.inf else []
    limits += [f"at most {most:g}"] if most < math.inf else []
    raise FleetcastError(f"{key} = {value!r}: give a number {' and '.join(limits)}".rstrip())


def whole(key: str, value: Any, *, least: int = 1) -> None:
    """Demand a whole number of at least `least`."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise FleetcastError(f"{key} = {value!r}: give a whole number of at least {least}")


def rising(key: str, values: Sequence[float], *, strictly: bool, least: float) -> None:
    """Demand a list of two or more finite numbers that rise (or never fall) from at least `least`."""
    how = "rise" if strictly else "never fall"
    array = np.asarray(values, dtype=np.float64) if _numbers(values) else np.empty(0)
    steps = np.diff(array)
    falls = bool(np.any(steps <= 0 if strictly else steps < 0))
    if array.size < 2 or falls or not np.all(np.isfinite(array)) or array[0] < least:
        raise FleetcastError(f"{key} = {_short(values)}: give two or more numbers that {how}, from {least:g} up")


def same_length(key: str, values: Sequence[float], other_key: str, others: Sequence[float]) -> None:
    """Demand two lists of equal length."""
    if len(values) != len(others):
        raise FleetcastError(f"{key} has {len(values)} values and {other_key} {len(others)}; give as many of each")


def extent(key: str, duration_s: float | None, num_requests: int | None) -> None:
    """Demand a duration or a count of requests (both: whichever ends first)."""
    if duration_s is None and num_requests is None:
        raise FleetcastError(f"{key}: neither duration_s nor num_requests is given; give one of them")
    if duration_s is not None:
        number("duration_s", duration_s, above=0)
    if num_requests is not None:
        whole("num_requests", num_requests)


def some(arrivals: int, duration_s: float | None) -> None:
    """Demand that anything arrives at all."""
    if not arrivals:
        raise FleetcastError(f"the workload holds no requests before duration_s = {duration_s}; lengthen it")


def affordable(expected: float) -> None:
    """Refuse workloads that no memory holds, before drawing them."""
    if expected > MAX_REQUESTS:
        raise FleetcastError(
            f"the workload would hold about {expected:.3g} requests, more than {MAX_REQUESTS:,}; "
            "lower duration_s, num_requests or the rate"
        )


def _numbers(values: Any) -> bool:
    return isinstance(values, (list, tuple, np.ndarray)) and all(
        isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in values
    )


def _short(values: Any) -> str:
    text = repr(values)
    return text if len(text) <= 60 else text[:57] + "..."
