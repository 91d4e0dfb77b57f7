"""The clocks that [power] stage_clocks chooses for a step's passes, and what each pass costs at its own.

A pass is planned with its profile, of which every fourth clock is priced; the step runs with what the operators cost
at the clock that was chosen, which takes no longer than planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import Slot
from policies.power.perseus_pipeline import Outcome, Pipeline
from policies.power.stage_clocks import STAGE_CLOCKS, StageClocks
from sim.policy_choice import make_policy
from sim.training.clock_frontier import LOWEST, ClockPrices, pipeline_of
from sim.training.deployment import TrainingDeployment
from sim.training.pricing import Spent, total
from sim.training_scenario import TrainingScenario


@dataclass(frozen=True, slots=True)
class PassClocks:
    """Of one copy of the model, which all but a straggler run."""

    name: str  # who chose
    mhz: Mapping[Slot, float]
    prices: ClockPrices
    straggler: float = 1.0  # times as long that another pipeline takes at the highest clocks; 1: none

    def clock(self, slot: Slot) -> float:
        """Of a pass, a share of boost."""
        return self.mhz[slot] / self.prices.boost_mhz

    def spent(self, slot: Slot) -> Spent:
        """What a pass costs at its clock."""
        return self.prices.at(self.mhz[slot])[slot.stage].by_pass()[slot.work]

    def spent_on(self, deployment: TrainingDeployment, device: int) -> Spent:
        """What all passes of a device cost."""
        schedule, pp = deployment.schedule, deployment.layout.pp
        passes = Counter(
            (mhz, slot.stage, slot.work)
            for slot, mhz in self.mhz.items()
            if schedule.device_of(slot.stage, pp, slot.micro_batch) == device
        )
        return total(self.prices.at(mhz)[stage].by_pass()[work].times(n) for (mhz, stage, work), n in passes.items())


def planned_clocks(
    prices: ClockPrices, pipeline: Pipeline, planned: Outcome, name: str, straggler: float = 1.0
) -> PassClocks:
    """As they were planned for a pipeline."""
    mhz = {slot: point.setting for slot, point in zip(pipeline.slots, planned.clocks, strict=True)}
    return PassClocks(name, mhz, prices, straggler)


def clocks_policy(scenario: TrainingScenario) -> StageClocks | None:
    """Who chooses; None where every pass runs as fast as GPUs let it. Raises FleetcastError for keys that are wrong."""
    choice = None if scenario.power is None else scenario.power.stage_clocks
    return None if choice is None else make_policy("power.stage_clocks", choice, STAGE_CLOCKS, {})


def at_highest_clocks(scenario: TrainingScenario) -> TrainingScenario:
    """The same with nobody who chooses clocks."""
    if scenario.power is None:
        return scenario
    return scenario.model_copy(update={"power": scenario.power.model_copy(update={"stage_clocks": None})})


def stage_clocks(deployment: TrainingDeployment) -> PassClocks | None:
    """As the scenario has them; raises ImpossibleError for plans in which passes have no clocks of their own."""
    policy, scenario = clocks_policy(deployment.scenario), deployment.scenario
    if policy is None or scenario.power is None or scenario.power.stage_clocks is None:
        return None
    check_clocks(deployment, policy.straggler)
    prices = ClockPrices(deployment)
    pipeline = pipeline_of(deployment, prices)
    planned = policy.choose(pipeline)
    name = scenario.power.stage_clocks.name
    return planned_clocks(prices, pipeline, planned, name, policy.straggler)


def check_clocks(deployment: TrainingDeployment, straggler: float = 1.0) -> None:
    """Raise ImpossibleError where passes cannot have clocks of their own."""
    training, layout = deployment.scenario.training, deployment.layout
    if layout.pp == 1:
        raise ImpossibleError(
            "power.stage_clocks: with pipeline_parallel_size = 1 no pass waits for another stage; give"
            " power.clock_mhz, or a pipeline"
        )
    if deployment.clock <= LOWEST:
        boost_mhz = deployment.gpu.boost_clock_hz / 1e6
        raise ImpossibleError(
            f"power.stage_clocks: GPUs run at {deployment.clock * boost_mhz:.0f} MHz, and clocks are chosen from"
            f" {LOWEST * boost_mhz:.0f} MHz on; raise power.clock_mhz or gpu_power_limit_w"
        )
    if training.stage_profile is not None:
        raise ImpossibleError(
            "training.stage_profile: a step at power.stage_clocks is priced by the hardware models; leave one of them"
            " out"
        )
    if training.overlap_moe_expert_parallel_comm:
        raise ImpossibleError(
            "training.overlap_moe_expert_parallel_comm: passes in pairs have no clocks of their own; leave it or"
            " power.stage_clocks out"
        )
    uneven = training.jitter_fraction or training.slow_gpus or training.slow_cards
    if straggler > 1.0 and (uneven or layout.dp == 1):
        why = "there is one copy of the model" if layout.dp == 1 else "slow GPUs, slow cards and jitter make their own"
        raise ImpossibleError(
            f"power.stage_clocks.straggler = {straggler:g}: another copy of the pipeline is late, and {why}; leave it"
            " out"
        )
