"""Steps of a training that shares a row, priced at each clock it is locked at: the training's own simulation, once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models import catalog
from hardware_models.errors import FleetcastError, ImpossibleError
from hardware_models.power import power_model
from hardware_models.server_power import server_power
from hardware_models.specs import GpuSpec
from sim.offload.simulate import simulate_offload
from sim.power.clocks import clock_share
from sim.power.series import PowerSeries
from sim.power_section import RowTrainingSection
from sim.row_training import KEY
from sim.training.power_limit import LOWEST
from sim.training.power_swings import Repeated
from sim.training.simulate import TrainingRun, simulate_training
from sim.training.step_power import StepPower
from sim.training_power_section import TrainingPowerSection
from sim.training_scenario import TrainingScenario

Floats = NDArray[np.float64]
TWENTIETHS = range(8, 20)  # of boost, of which the usual clocks are


@dataclass(frozen=True, slots=True)
class AlikeServers:
    """Servers of a training that draw the same, over a step."""

    count: int
    wall: PowerSeries
    gpus: PowerSeries  # all of one server's


@dataclass(frozen=True, slots=True)
class PricedStep:
    """A step at one clock, which others like it come before and after."""

    clock: float  # a share of boost
    step_s: float
    cluster: PowerSeries  # of all servers at the wall
    servers: tuple[AlikeServers, ...]  # in the order of their numbers
    parts: dict[str, float]  # shares of the joules of all GPUs, by what they do

    @classmethod
    def of(cls, run: TrainingRun) -> PricedStep:
        """From a step as it ran."""
        power, node = StepPower.of(run), run.deployment.node
        idle_w = power_model(run.deployment.gpu).idle_w
        servers = []
        for kind, wall in power.wall.servers:
            unused_w = (node.gpus - sum(count for _, count in kind.gpus)) * idle_w
            servers.append(AlikeServers(kind.count, wall, kind.gpu_watts(power.gpus, unused_w)))
        without_work = run.deployment.scenario.cluster.nodes - sum(one.count for one in servers)
        if without_work:
            flat = [PowerSeries.of([0.0, run.step_s], [w]) for w in (server_power(node).idle_w, node.gpus * idle_w)]
            servers.append(AlikeServers(without_work, *flat))
        drawn_j = sum(one.count * one.gpus.energy_j for one in servers)
        parts_j = power.parts_j
        parts = {name: joules / drawn_j for name, joules in parts_j.items()}
        parts["unused"] = 1.0 - sum(parts.values()) if run.deployment.cluster_gpus > run.deployment.layout.gpus else 0.0
        return cls(run.deployment.clock, run.step_s, power.cluster, tuple(servers), parts)


class PricedSteps:
    """Of one training at any clock; each is simulated when it is first asked for."""

    def __init__(self, scenario: TrainingScenario) -> None:
        """Raises ImpossibleError for a training that cannot be."""
        self._scenario = scenario
        self.node = catalog.node(scenario.cluster.node)
        self.gpu: GpuSpec = catalog.gpu(self.node.gpu)
        self._known: dict[float, PricedStep] = {}
        self.own = self._price(None)

    @property
    def scenario(self) -> TrainingScenario:
        """On the servers that it has in the row."""
        return self._scenario

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self._scenario.training.global_batch_size * self._scenario.training.seq_length

    def at(self, clock: float) -> PricedStep:
        """Locked at a share of boost; from its own clock on, its own."""
        if clock >= self.own.clock:
            return self.own
        if clock not in self._known:
            self._known[clock] = self._price(clock * self.gpu.boost_clock_hz / 1e6)
        return self._known[clock]

    def _price(self, mhz: float | None) -> PricedStep:
        scenario = self._scenario
        if mhz is not None:
            power = scenario.power or TrainingPowerSection()
            scenario = scenario.model_copy(update={"power": power.model_copy(update={"clock_mhz": mhz})})
        try:
            run = simulate_training(scenario) if scenario.offload is None else simulate_offload(scenario)
        except FleetcastError as error:
            raise ImpossibleError(f"{KEY}, with nodes = {scenario.cluster.nodes}: {error}") from None
        return PricedStep.of(run)


def clocks_of(section: RowTrainingSection, steps: PricedSteps) -> tuple[float, ...]:
    """MHz that it may be slowed to, rising, all below its own; raises ImpossibleError for those that its GPUs have not,
    and where none is left.
    """
    boost_mhz = steps.gpu.boost_clock_hz / 1e6
    for mhz in section.clocks_mhz or ():
        if clock_share(f"{KEY}.clocks_mhz", mhz, steps.gpu) < LOWEST:
            raise ImpossibleError(
                f"{KEY}.clocks_mhz = {mhz:g}: {steps.gpu.name} runs at {LOWEST * boost_mhz:.0f} MHz at least; give no"
                " less"
            )
    asked = section.clocks_mhz or [boost_mhz * share / 20 for share in TWENTIETHS]
    found = tuple(sorted({mhz for mhz in asked if mhz < steps.own.clock * boost_mhz}))
    if not found:
        raise ImpossibleError(
            f"{KEY}.clocks_mhz: none is below the {steps.own.clock * boost_mhz:.0f} MHz that the training runs at by"
            " itself; give lower ones"
        )
    return found


class Profile:
    """What it draws at each clock, as a policy asks."""

    def __init__(self, steps: PricedSteps, clocks_mhz: tuple[float, ...], period_s: float) -> None:
        self._steps, self.clocks_mhz, self._period_s = steps, clocks_mhz, period_s
        self._watts: dict[float, float] = {}

    def watts(self, mhz: float | None) -> float:
        """At the wall, the highest mean over a reading."""
        clock = 1.0 if mhz is None else mhz * 1e6 / self._steps.gpu.boost_clock_hz
        step = self._steps.at(clock)
        if step.clock not in self._watts:
            self._watts[step.clock] = Repeated(step.cluster).means(self._period_s)[1]
        return self._watts[step.clock]
