"""POLCA (Patel et al., arXiv 2308.12908): two thresholds on a row's power; servers of low priority pay first.

Above the first, low-priority GPUs are locked at a moderate clock. Above the second they are locked lower, and if that
is in effect and does not help, high-priority GPUs are locked too. Locks are let go a margin below their threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import FleetcastError
from policies.power.row import UNLOCKED, Locks, RowPolicy, RowView


@dataclass(frozen=True, slots=True, kw_only=True)
class Polca(RowPolicy):
    """Fractions are of the row's limit; the defaults are those of the paper, for A100s."""

    t1_fraction: float = 0.80
    t2_fraction: float = 0.89
    hysteresis_fraction: float = 0.05
    t1_low_mhz: float = 1275.0
    t2_low_mhz: float = 1110.0
    t2_high_mhz: float = 1305.0

    def __post_init__(self) -> None:
        if not 0.0 < self.t1_fraction < self.t2_fraction:
            raise FleetcastError(
                f"t1_fraction = {self.t1_fraction:g}, t2_fraction = {self.t2_fraction:g}: the first threshold must be"
                " above 0 and below the second; give for example 0.8 and 0.89"
            )
        if not 0.0 <= self.hysteresis_fraction < self.t1_fraction:
            raise FleetcastError(
                f"hysteresis_fraction = {self.hysteresis_fraction:g}: locks are let go that far below a threshold;"
                f" give at least 0 and less than t1_fraction = {self.t1_fraction:g}"
            )
        if min(self.clocks_mhz) <= 0.0:
            raise FleetcastError(f"polca's clocks {self.clocks_mhz}: give clocks above 0 MHz")

    def decide(self, view: RowView) -> Locks:
        """One step up or down after each reading."""
        first = Locks(low_mhz=self.t1_low_mhz)
        second = Locks(low_mhz=self.t2_low_mhz)
        third = Locks(low_mhz=self.t2_low_mhz, high_mhz=self.t2_high_mhz)
        now, load = view.ordered, view.load
        if load >= self.t2_fraction:
            if now in (second, third):
                return third if view.in_effect else now
            return second
        if load < self.t1_fraction - self.hysteresis_fraction:
            return UNLOCKED
        if load < self.t2_fraction - self.hysteresis_fraction and now in (second, third):
            return first
        return first if now == UNLOCKED and load >= self.t1_fraction else now

    @property
    def clocks_mhz(self) -> tuple[float, ...]:
        """Every clock that it may order."""
        return self.t1_low_mhz, self.t2_low_mhz, self.t2_high_mhz

    @property
    def needs_low_priority(self) -> bool:
        """They pay first."""
        return True

    @property
    def first_fraction(self) -> float:
        """The first threshold."""
        return self.t1_fraction
