"""At which clock a GPU can keep up a training step: it lowers its clock until it draws no more than its power limit.

Microbenchmarks of a few milliseconds run at boost; a step of seconds does not. The clock follows from what the step
does and from the device's power model, which is fitted to other measurements (`hardware_models/power.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from hardware_models.errors import ImpossibleError
from hardware_models.power import Activity, power_model
from hardware_models.specs import GpuSpec
from sim.power.clocks import clock_share
from sim.training.pricing import Spent
from sim.training_power_section import TrainingPowerSection

LOWEST = 0.15  # share of boost: no device is locked much below 200 MHz


@dataclass(frozen=True, slots=True)
class PowerLimits:
    """What no GPU exceeds."""

    watts: float
    clock: float = 1.0  # share of boost


def power_limits(power: TrainingPowerSection | None, gpu: GpuSpec) -> PowerLimits:
    """As [power] has them; raises ImpossibleError for a clock or a limit that the device cannot have."""
    if power is None:
        return PowerLimits(gpu.tdp_w)
    clock = clock_share("power.clock_mhz", power.clock_mhz, gpu)
    watts = gpu.tdp_w if power.gpu_power_limit_w is None else power.gpu_power_limit_w
    waiting_w = power_model(gpu).awake_w
    if not waiting_w < watts <= gpu.tdp_w:
        raise ImpossibleError(
            f"power.gpu_power_limit_w = {watts:g}: {gpu.name} draws {waiting_w:.0f} W without work, and {gpu.tdp_w:g} W"
            " is the most it may; give a limit in between"
        )
    return PowerLimits(watts, clock)


def sustained_clock(work: Spent, gpu: GpuSpec, limits: PowerLimits | None = None) -> float:
    """Share of boost at which passes that spend `work` at boost draw no more than the limit; limits: absent, the
    device's own. Raises ImpossibleError where they draw more at any clock.
    """
    limits = PowerLimits(gpu.tdp_w) if limits is None else limits
    if not work.seconds:
        return limits.clock
    activity = activity_of(work, work.seconds, gpu)
    model = power_model(gpu)
    clock = float(model.clock_within(activity, limits.watts, LOWEST))
    follows = activity.compute >= activity.memory  # as `clock_within` slows it down
    slowest = Activity(activity.busy, activity.compute * LOWEST, activity.memory * (LOWEST if follows else 1.0))
    if clock <= LOWEST * (1.0 + 1e-9) and float(model.watts(slowest, LOWEST, inf)) > limits.watts:
        raise ImpossibleError(
            f"power.gpu_power_limit_w = {limits.watts:g}: at its lowest clock {gpu.name} draws more in this training;"
            " give a higher limit"
        )
    return min(clock, limits.clock)


def waiting_watts(gpu: GpuSpec, limits: PowerLimits) -> float:
    """Of a GPU that a process holds and that has nothing to run: no limit slows it, a lock does."""
    return float(power_model(gpu).watts(Activity(0.0, 0.0, 0.0), limits.clock))


def activity_of(work: Spent, seconds: float, gpu: GpuSpec) -> Activity:
    """Of a GPU that does it in so many seconds, kernels running all along."""
    return Activity(
        busy=1.0,
        compute=min(1.0, work.peak_s / seconds),
        memory=min(1.0, work.moved_bytes / seconds / gpu.memory_bandwidth_bytes_per_s),
    )


def pass_watts(work: Spent, seconds: float, gpu: GpuSpec, limit_w: float, clock: float) -> float:
    """Of a GPU that does it in so many seconds at a core clock, a share of boost."""
    return float(power_model(gpu).watts(activity_of(work, seconds, gpu), clock, limit_w))
