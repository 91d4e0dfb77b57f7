"""Servers of a training in a row that serves: who locks them, and what its meter reads of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models.power import power_model
from hardware_models.server_power import server_power
from sim.power.clocks import ClockHistory, clock_share
from sim.power.locks import ClockLock
from sim.power.training_job import TrainingJob
from sim.power.training_steps import PricedSteps, Profile, clocks_of
from sim.power_section import PowerSection, RowTrainingSection
from sim.row_training import row_training

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrainingServers:
    """Of one training."""

    job: TrainingJob
    lock: ClockLock
    profile: Profile
    boost_mhz: float

    @property
    def nodes(self) -> int:
        """How many they are."""
        return self.job.steps.scenario.cluster.nodes

    @property
    def idle_w(self) -> float:
        """Of all at the wall, without work."""
        return self.nodes * server_power(self.job.steps.node).idle_w

    def mean_watts(self, begin_s: float, end_s: float) -> Floats:
        """Of each server over a time, at the wall and of its GPUs: (servers, 2)."""
        joules = np.diff(self.job.joules(np.array([begin_s, end_s])), axis=0)[0]
        counts = [one.count for one in self.job.steps.own.servers]
        return np.repeat(joules / (end_s - begin_s), counts, axis=0)


def training_servers(power: PowerSection, section: RowTrainingSection) -> TrainingServers:
    """Of a row with [power.training]; raises FleetcastError for one that cannot be."""
    steps = PricedSteps(row_training(section))
    clock_share("power.brake_clock_mhz", power.brake_clock_mhz, steps.gpu)
    job = TrainingJob(steps)
    lock = ClockLock([job], ClockHistory(power_model(steps.gpu), steps.own.clock))
    profile = Profile(steps, clocks_of(section, steps), power.telemetry_period_s)
    return TrainingServers(job, lock, profile, steps.gpu.boost_clock_hz / 1e6)
