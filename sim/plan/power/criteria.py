"""What a row may come to and still be called safe: rates of brakes and trips, and what users may feel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import inf, isfinite

from hardware_models.errors import FleetcastError, UnknownNameError

RATES = ("trips_per_h", "brakes_per_h", "over_limit_s_per_h")
PRIORITIES, POINTS = ("high", "low"), ("p50", "p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """The most of each that is allowed; the defaults are what POLCA kept (Patel et al., arXiv 2308.12908).

    Rates are means over all seeds. The others are by how much the end-to-end latency of a priority may rise, at a
    percentile and in the worst seed, over the same servers and requests without a limit: 0.01 is 1 %.
    """

    trips_per_h: float = 0.0  # of the breaker
    brakes_per_h: float = 0.0
    over_limit_s_per_h: float = inf  # any reading above the limit calls the brake, so that this is mostly its business
    high_p50: float = 0.01
    high_p99: float = 0.05
    low_p50: float = 0.05
    low_p99: float = 0.50

    def __post_init__(self) -> None:
        for name, value in self.allowed.items():
            if not value >= 0.0:
                raise FleetcastError(f"--allow {name}={value:g}: give 0 or more")

    @property
    def allowed(self) -> dict[str, float]:
        """By name, in the order of how bad it is to exceed them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def changed(self, given: Iterable[str]) -> Criteria:
        """With `NAME=VALUE` in place of defaults, a value as 0.05 or 5%; raises FleetcastError."""
        changes = {}
        for text in given:
            name, _, value = (part.strip() for part in text.partition("="))
            if name not in self.allowed:
                raise UnknownNameError("--allow", name, self.allowed)
            changes[name] = _number(text, value)
        return replace(self, **changes)


def _number(text: str, value: str) -> float:
    try:
        number = float(value.removesuffix("%")) * (0.01 if value.endswith("%") else 1.0)
    except ValueError:
        number = inf
    if not isfinite(number):
        raise FleetcastError(f"--allow {text}: write it as NAME=VALUE, for example high_p99=5%")
    return number
