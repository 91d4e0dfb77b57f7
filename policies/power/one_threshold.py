"""One threshold on a row's power, above which the GPUs of low priority, or all, are locked at one clock.

POLCA's baselines (arXiv 2308.12908).
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import FleetcastError
from policies.power.row import UNLOCKED, Locks, RowPolicy, RowView


@dataclass(frozen=True, slots=True, kw_only=True)
class OneThreshold(RowPolicy):
    """Fractions are of the row's limit."""

    threshold_fraction: float = 0.89
    hysteresis_fraction: float = 0.05
    clock_mhz: float = 1110.0
    all_servers: bool = False  # those of high priority too

    def __post_init__(self) -> None:
        if not 0.0 <= self.hysteresis_fraction < self.threshold_fraction:
            raise FleetcastError(
                f"threshold_fraction = {self.threshold_fraction:g}, hysteresis_fraction ="
                f" {self.hysteresis_fraction:g}: give a threshold above 0 and a margin from 0 to less than it"
            )
        if self.clock_mhz <= 0.0:
            raise FleetcastError(f"clock_mhz = {self.clock_mhz:g}: give a clock above 0 MHz")

    def decide(self, view: RowView) -> Locks:
        """Locked above the threshold, free a margin below it, in between as before."""
        if view.load >= self.threshold_fraction:
            return Locks(low_mhz=self.clock_mhz, high_mhz=self.clock_mhz if self.all_servers else None)
        return UNLOCKED if view.load < self.threshold_fraction - self.hysteresis_fraction else view.ordered

    @property
    def clocks_mhz(self) -> tuple[float, ...]:
        """The one clock."""
        return (self.clock_mhz,)

    @property
    def needs_low_priority(self) -> bool:
        """Unless all are capped alike."""
        return not self.all_servers

    @property
    def first_fraction(self) -> float:
        """The one threshold."""
        return self.threshold_fraction
