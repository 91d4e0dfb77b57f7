"""Smoothing of a training's power: a policy's transform, applied to steps that follow one another until they repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from policies.power.smoothing import SMOOTHING, GpuBounds, NoSmoothing, Smoothing
from sim.policy_choice import make_policy
from sim.power.series import PowerSeries
from sim.training.deployment import TrainingDeployment
from sim.training.power_limit import waiting_watts
from sim.training.power_swings import ticks
from sim.training.wall_power import WallPower, wall_power
from sim.training_scenario import TrainingScenario

Floats = NDArray[np.float64]
FEWEST_STEPS = 2  # before the one that is looked at
MOST_TICKS = 200_000  # before it, but for those: a policy that settles more slowly has not settled yet


@dataclass(frozen=True, slots=True)
class Smoothed:
    """A step when smoothing has settled; the work's own watts are means over the same ticks."""

    gpus: list[PowerSeries]  # one of each stage
    wall: WallPower
    work_wall: PowerSeries  # of the cluster, had nobody smoothed
    held_back_s: float  # by which work is late that was not let ramp up, of the stage that is held back most
    stored_j: tuple[float, float]  # the least and the most in racks' stores

    @property
    def added_w(self) -> float:
        """Mean watts at the wall that smoothing costs."""
        return self.wall.cluster.mean_w - self.work_wall.mean_w


def smoothing_of(scenario: TrainingScenario) -> Smoothing:
    """The scenario's; raises FleetcastError for a policy that is none."""
    if scenario.power is None:
        return NoSmoothing()
    return make_policy("power.smoothing", scenario.power.smoothing, SMOOTHING, {})


def smooth(deployment: TrainingDeployment, work: Sequence[PowerSeries], policy: Smoothing) -> Smoothed:
    """work: of one GPU of each stage over a step."""
    step_s = work[0].end_s
    period_s = ticks(work[0])[0]
    wanted = np.array([ticks(one)[1] for one in work])
    count = wanted.shape[1]
    edges = np.linspace(0.0, step_s, count + 1)
    bounds = GpuBounds(deployment.limits.watts, waiting_watts(deployment.gpu, deployment.limits))
    before = min(max(FEWEST_STEPS, ceil(policy.settling_s(bounds) / step_s)), max(FEWEST_STEPS, MOST_TICKS // count))
    drawn = policy.of_gpus(np.tile(wanted, before + 1), period_s, bounds)[:, -count:]
    gpus = [PowerSeries.of(edges, watts) for watts in drawn]
    wall = wall_power(deployment, gpus)
    unsmoothed = wall_power(deployment, [PowerSeries.of(edges, watts) for watts in wanted]).cluster
    loads = ticks(wall.cluster)[1]
    stored = policy.at_the_wall(np.tile(loads, before + 1), period_s, deployment.cluster_gpus)
    full_j = stored.stored_j[-count - 1 :]
    return Smoothed(
        gpus,
        WallPower(wall.servers, PowerSeries.of(edges, stored.watts[-count:])),
        unsmoothed,
        _held_back_s(wanted, drawn, period_s, bounds.waiting_w),
        (float(full_j.min()), float(full_j.max())),
    )


def _held_back_s(wanted: Floats, drawn: Floats, period_s: float, waiting_w: float) -> float:
    """Work goes as fast as the watts that it is let draw above waiting."""
    short = np.maximum(wanted - drawn, 0.0) / np.maximum(wanted - waiting_w, 1.0)
    return float(np.minimum(short, 1.0).sum(axis=1).max()) * period_s
