"""Capacitors or batteries in the racks (arXiv 2508.14318): the grid sees a filtered load, storage the rest.

Each tick the controller wants the load's exponential mean, and a little more or less to bring the store back to half.
What that is above the load charges the store, what it is below comes out of it, within its power and its energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np

from hardware_models.errors import FleetcastError
from policies.power.smoothing.base import Floats, GpuBounds, Smoothing, Stored

HALF = 0.5  # of the capacity, at which the store rests
FORGOTTEN = 6.0  # time constants


@dataclass(frozen=True, slots=True, kw_only=True)
class RackStorage(Smoothing):
    """Capacity as remembered of GB300's power shelves; power, efficiency and times are assumed."""

    capacity_j_per_gpu: float = 65.0
    power_w_per_gpu: float = 600.0  # of charging, and of discharging
    round_trip_efficiency: float = 0.95
    time_constant_s: float = 2.0  # of the filter
    restore_s: float = 20.0  # in which the store would be back at half

    def __post_init__(self) -> None:
        if not min(self.capacity_j_per_gpu, self.power_w_per_gpu, self.time_constant_s, self.restore_s) > 0.0:
            raise FleetcastError(
                f"capacity_j_per_gpu = {self.capacity_j_per_gpu:g}, power_w_per_gpu = {self.power_w_per_gpu:g},"
                f" time_constant_s = {self.time_constant_s:g}, restore_s = {self.restore_s:g}: give figures above 0"
            )
        if not 0.0 < self.round_trip_efficiency <= 1.0:
            raise FleetcastError(
                f"round_trip_efficiency = {self.round_trip_efficiency:g}: of what is stored some comes back; give a"
                " share above 0 and at most 1"
            )

    def at_the_wall(self, watts: Floats, period_s: float, gpus: int) -> Stored:
        """Tick after tick, from a store that is half full."""
        capacity_j, most_w = self.capacity_j_per_gpu * gpus, self.power_w_per_gpu * gpus
        one_way, new = sqrt(self.round_trip_efficiency), 1.0 - exp(-period_s / self.time_constant_s)
        mean_w, full_j = float(np.mean(watts)), HALF * capacity_j
        drawn, stored = np.empty_like(watts), np.empty(len(watts) + 1)
        for tick, load_w in enumerate(watts.tolist()):
            stored[tick] = full_j
            mean_w += new * (load_w - mean_w)
            wanted = mean_w + (HALF * capacity_j - full_j) / self.restore_s - load_w
            if wanted > 0.0:
                charge_w = min(wanted, most_w, (capacity_j - full_j) / (one_way * period_s))
                full_j = min(capacity_j, full_j + charge_w * one_way * period_s)
            else:
                charge_w = -min(-wanted, most_w, load_w, full_j * one_way / period_s)
                full_j = max(0.0, full_j + charge_w / one_way * period_s)
            drawn[tick] = load_w + charge_w
        stored[-1] = full_j
        return Stored(drawn, stored)

    def settling_s(self, gpu: GpuBounds) -> float:
        """Until filter and store have forgotten how they began, to a few thousandths."""
        return FORGOTTEN * (self.time_constant_s + self.restore_s)
