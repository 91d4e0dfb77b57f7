"""Watts of a GPU as a function of what it does and at what clock.

    watts = idle + TDP x [ s f (awake + busy x time share) + s compute x arithmetic share + memory x bandwidth share ]

f is the core clock and s the energy of a switching transistor, both relative to boost: s = V^2, with a supply voltage V
that falls with the clock down to a floor (CMOS: power is proportional to f V^2). Clock trees and schedulers switch
whenever kernels run, arithmetic costs energy a flop, memory energy a byte. All parameters are shares of the data
sheet, so that they carry over to other devices. A device never draws more than its power limit: it lowers its clock.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models import catalog
from hardware_models.calibrated_kernel import POWER, calibrated_kernel, relatives

if TYPE_CHECKING:
    from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]
OPERATOR = POWER
KEY = "board"  # what its watts are of: the card with its memory, as NVML reads it
# First guesses and the standard deviations of their logarithms before measuring.
START = {
    # a process holds the device and its clocks are up: 80 W of an A100, 122 W of an H100 (arXiv 2605.23918)
    "awake_fraction": 0.07,
    "busy_fraction": 0.4,  # kernels run
    "compute_fraction": 1.0,  # more at peak arithmetic: such a device would exceed its limit, and lowers its clock
    "memory_fraction": 0.25,  # more at full bandwidth: 4 to 6 pJ a bit of HBM are 0.2, the rest is the way to it
    "voltage_slope": 1.0,  # relative voltage over relative clock, from boost downwards
    "voltage_floor": 0.75,  # of the voltage at boost
}
PRIOR = {
    "awake_fraction": 0.1,
    "busy_fraction": 0.5,
    "compute_fraction": 0.3,
    "memory_fraction": 0.5,
    "voltage_slope": 0.3,
    "voltage_floor": 0.1,
}
IDLE_FRACTION = 0.125  # of the TDP, where the data sheet says nothing: median of the catalog's devices
HALVINGS = 40  # of the interval in which a clock is sought


@dataclass(frozen=True, slots=True)
class Activity:
    """What a GPU does over some time: arrays of one shape, or numbers."""

    busy: Floats | float  # share of the time in which kernels run
    compute: Floats | float  # flop a second, over the peak of their format at full clock
    memory: Floats | float  # bytes a second, over the bandwidth


@dataclass(frozen=True, slots=True)
class PowerModel:
    """One kind of GPU."""

    parameters: Mapping[str, float]  # names as in START
    idle_w: float  # no process on the device
    tdp_w: float
    sigma: float  # standard deviation of log(measured / predicted) watts
    grade: str
    source: str

    @property
    def awake_w(self) -> float:
        """A process holds the device, nothing runs."""
        return float(self.watts(Activity(0.0, 0.0, 0.0)))

    def watts(self, activity: Activity, clock: float | Floats = 1.0, limit_w: float | None = None) -> Floats:
        """Mean watts at a core clock, a share of boost above 0; at most the power limit, by default the TDP.

        The activity is what is reached at that clock, not what would be reached at boost.
        """
        limit = self.tdp_w if limit_w is None else limit_w
        return np.minimum(self._demand(activity, np.asarray(clock, float)), limit)

    def clock_within(self, activity: Activity, limit_w: float, lowest: float = 0.15) -> Floats:
        """Highest clock, a share of boost, at which work that reaches `activity` at boost draws at most `limit_w`.

        Arithmetic slows down with the clock, and memory traffic where the arithmetic share is the larger; the time in
        which kernels run does not shrink. `lowest` where even that draws more.
        """
        shape = np.broadcast(activity.busy, activity.compute, activity.memory).shape
        low, high = np.full(shape, lowest), np.ones(shape)
        follows = np.asarray(activity.compute, float) >= np.asarray(activity.memory, float)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            slowed = Activity(
                activity.busy,
                activity.compute * middle,
                np.where(follows, activity.memory * middle, activity.memory),
            )
            fits = self._demand(slowed, middle) <= limit_w
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        at_boost = self._demand(activity, np.ones(shape)) <= limit_w
        return np.asarray(np.where(at_boost, 1.0, low))

    def step_demand(self, busy: float, compute: float, memory: float, clock: float) -> float:
        """Watts without a limit, as `watts` has them with one, of one activity at one clock."""
        p = self.parameters
        switching = max(p["voltage_floor"], 1.0 - p["voltage_slope"] * (1.0 - clock)) ** 2
        core = switching * (clock * (p["awake_fraction"] + p["busy_fraction"] * busy) + p["compute_fraction"] * compute)
        return self.idle_w + self.tdp_w * (core + p["memory_fraction"] * memory)

    def _demand(self, activity: Activity, clock: Floats) -> Floats:
        """Watts without a limit."""
        p = self.parameters
        switching = voltage(clock, p) ** 2
        core = clock * (p["awake_fraction"] + p["busy_fraction"] * np.asarray(activity.busy, float))
        core = switching * (core + p["compute_fraction"] * np.asarray(activity.compute, float))
        return np.asarray(self.idle_w + self.tdp_w * (core + p["memory_fraction"] * np.asarray(activity.memory, float)))


def voltage(clock: Floats, parameters: Mapping[str, float]) -> Floats:
    """Supply voltage at clocks (shares of boost), relative to that at boost: a line down to a floor."""
    line = 1.0 - parameters["voltage_slope"] * (1.0 - clock)
    return np.maximum(parameters["voltage_floor"], line)


@functools.cache
def power_model(spec: GpuSpec) -> PowerModel:
    """The device's own calibration, or its nearest relatives'; raises FleetcastError where no device has one."""
    found = calibrated_kernel(spec, OPERATOR, (KEY,))
    if spec.variation_of is not None:  # the shares are of the original's TDP, and its limit is kept: `variation`
        original = power_model(catalog.gpu(spec.variation_of))
        sigma = float(found.spread.max())
        return replace(original, idle_w=idle_w(spec), sigma=sigma, grade=found.grade, source=found.source)
    parameters = found.parameters if found.grade != "assumed" else mean_parameters(spec)
    return PowerModel(parameters, idle_w(spec), spec.tdp_w, float(found.spread.max()), found.grade, found.source)


def mean_parameters(spec: GpuSpec) -> dict[str, float]:
    """Means over the device's nearest measured relatives: watts at boost are linear in them, so they are mean watts."""
    near, _ = relatives(spec, OPERATOR, KEY)
    return {name: float(np.mean([fit.parameters[name] for fit in near.values()])) for name in START}


def idle_w(spec: GpuSpec) -> float:
    """Watts of a device without a process: the data sheet's, or a share of the TDP."""
    return spec.idle_w if spec.idle_w is not None else IDLE_FRACTION * spec.tdp_w
