"""Firefly (arXiv 2508.14318): a second kernel on every GPU multiplies matrices for nothing while the work draws little.

It is started when activity counters fall and stopped when they rise; sharing the GPU with it costs the work some time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hardware_models.errors import FleetcastError
from policies.power.smoothing.base import Floats, GpuBounds, Smoothing


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondaryKernel(Smoothing):
    """The paper's kernel fills up to all of the TDP and costs about 5 % of time; threshold and response are assumed."""

    threshold_fraction: float = 0.6  # of the power limit, below which the filler runs
    fill_fraction: float = 0.9  # of the power limit, that a GPU draws with it
    response_s: float = 0.02  # until counters tell
    slowdown_fraction: float = 0.05  # by how much passes take longer

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold_fraction <= self.fill_fraction <= 1.0:
            raise FleetcastError(
                f"threshold_fraction = {self.threshold_fraction:g}, fill_fraction = {self.fill_fraction:g}: the filler"
                " runs below the first and draws up to the second; give 0 < threshold_fraction <= fill_fraction <= 1"
            )
        if not self.response_s >= 0.0 or not 0.0 <= self.slowdown_fraction < 1.0:
            raise FleetcastError(
                f"response_s = {self.response_s:g}, slowdown_fraction = {self.slowdown_fraction:g}: give seconds of at"
                " least 0, and a share from 0 to below 1"
            )

    def of_gpus(self, watts: Floats, period_s: float, gpu: GpuBounds) -> Floats:
        """More where the work has been below the threshold for longer than the response."""
        low = watts < self.threshold_fraction * gpu.limit_w
        tick = np.arange(watts.shape[1])
        last_high = np.maximum.accumulate(np.where(low, -1, tick), axis=1)
        waited_s = np.where(last_high < 0, np.inf, (tick - last_high - 1) * period_s)
        filled = low & (waited_s >= self.response_s - 1e-9 * period_s)
        return np.where(filled, self.fill_fraction * gpu.limit_w, watts)

    @property
    def longer_passes_fraction(self) -> float:
        """Kernels share multiprocessors and caches with it."""
        return self.slowdown_fraction
