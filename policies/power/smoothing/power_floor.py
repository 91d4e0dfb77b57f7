"""A GPU's own power smoothing, as in GB200 (arXiv 2508.14318): it draws a floor while work pauses, and ramps.

Once its work has drawn the floor, the GPU draws no less until a hold time has passed without; then it ramps down, and
up again when work returns. Below the floor watts change no faster than the rates; above it they are free. Work that
would ramp up faster is held back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hardware_models.errors import FleetcastError
from policies.power.smoothing.base import Floats, GpuBounds, Smoothing

FLOORS = (0.2, 0.9)  # of the TDP, between which GB200's can be set (arXiv 2508.14318)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerFloor(Smoothing):
    """The range of floors is the paper's; rates and the hold time are programmed, and these are assumed."""

    floor_fraction: float = 0.8  # of the power limit
    ramp_up_w_per_s: float = 1000.0
    ramp_down_w_per_s: float = 1000.0
    hold_s: float = 2.0

    def __post_init__(self) -> None:
        low, high = FLOORS
        if not low <= self.floor_fraction <= high:
            raise FleetcastError(
                f"floor_fraction = {self.floor_fraction:g}: floors can be set from {low:g} to {high:g} of the limit"
            )
        if not min(self.ramp_up_w_per_s, self.ramp_down_w_per_s) > 0.0 or not self.hold_s >= 0.0:
            raise FleetcastError(
                f"ramp_up_w_per_s = {self.ramp_up_w_per_s:g}, ramp_down_w_per_s = {self.ramp_down_w_per_s:g}, hold_s ="
                f" {self.hold_s:g}: give rates above 0 and seconds not below"
            )

    def of_gpus(self, watts: Floats, period_s: float, gpu: GpuBounds) -> Floats:
        """Tick after tick, all GPUs at once; they begin at the floor."""
        floor_w = self.floor_fraction * gpu.limit_w
        up_w, down_w = self.ramp_up_w_per_s * period_s, self.ramp_down_w_per_s * period_s
        drawn = np.empty_like(watts)
        before, without_s = np.full(len(watts), floor_w), np.zeros(len(watts))
        for tick in range(watts.shape[1]):
            wanted = watts[:, tick]
            without_s = np.where(wanted >= floor_w, 0.0, without_s + period_s)
            kept = np.minimum(before, floor_w)
            least = np.where(without_s <= self.hold_s + 1e-9 * period_s, kept, kept - down_w)
            most = np.where(before + up_w >= floor_w, np.inf, before + up_w)
            before = np.minimum(np.maximum(wanted, least), most)
            drawn[:, tick] = before
        return drawn

    def settling_s(self, gpu: GpuBounds) -> float:
        """Until a GPU whose work never draws the floor has ramped down."""
        return self.hold_s + self.floor_fraction * gpu.limit_w / self.ramp_down_w_per_s
