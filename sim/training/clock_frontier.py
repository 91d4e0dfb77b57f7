"""How much energy a training plan's pipeline draws for each length of its iteration, a clock chosen for every pass.

Passes cost what the scenario's stage profile measured, or what the hardware models make of them: seconds at each clock
from the operators, watts from what the passes do in those seconds. Copies of the model do the same at the same time;
exchanges among them and the optimizer come on top of an iteration and are not part of it.
"""

from __future__ import annotations

from itertools import permutations

from hardware_models import catalog
from hardware_models.errors import ImpossibleError
from hardware_models.stage_profile_spec import StageProfileSpec
from policies.parallelism.schedules import BACKWARD, FORWARD
from policies.power.perseus import Frontier, frontier
from policies.power.perseus_pipeline import Pipeline
from policies.power.perseus_profile import PassPoint, PassProfile
from sim.training.deployment import TrainingDeployment, split_stages
from sim.training.pipeline_hops import PipelineHops
from sim.training.power_limit import pass_watts, waiting_watts
from sim.training.stage import StageWork
from sim.training.step_graph import slot_times
from sim.training.vocabulary import stage_works

Passes = dict[tuple[str, int], PassProfile]
STEP_MHZ = 15.0  # in which NVIDIA's data-center GPUs take clocks
PRICED_EVERY = 4  # of those steps; lines in between
LOWEST = 0.4  # of boost: far below the clock of least energy


def frontier_of(deployment: TrainingDeployment) -> Frontier:
    """The frontier of one copy of the model; raises ImpossibleError for plans it cannot be drawn for."""
    return frontier(pipeline_of(deployment))


class ClockPrices:
    """What each stage's passes cost at core clocks; each is priced when it is first asked for."""

    def __init__(self, deployment: TrainingDeployment) -> None:
        self.deployment = deployment
        self.boost_mhz = deployment.gpu.boost_clock_hz / 1e6
        self._known: dict[float, tuple[StageWork, ...]] = {}

    def at(self, mhz: float) -> tuple[StageWork, ...]:
        """Of each stage, its operators priced again."""
        if mhz not in self._known:
            deployment = self.deployment
            schedule, pp = deployment.schedule, deployment.layout.pp
            parts = split_stages(deployment.scenario, deployment.pricer, schedule.stages(pp))
            pricer = deployment.pricer.at_clock(mhz / self.boost_mhz)
            self._known[mhz] = stage_works(pricer, parts, schedule, pp)
        return self._known[mhz]


def pipeline_of(deployment: TrainingDeployment, prices: ClockPrices | None = None) -> Pipeline:
    """One copy of the model with a profile of each of its passes; raises ImpossibleError where a schedule makes devices
    wait for one another in other ways than for results, or where a measured profile is of another pipeline.

    prices: keep what is priced here for those who ask again.
    """
    layout, schedule = deployment.layout, deployment.schedule
    programs = schedule.programs(layout.pp, layout.micro_batches, slot_times(deployment))
    if schedule.joined(programs) or schedule.meetings(programs):
        raise ImpossibleError(
            "training.schedule: clocks are chosen for passes that run alone; take a schedule such as '1f1b' whose"
            " passes neither run in pairs nor meet"
        )
    name = deployment.scenario.training.stage_profile
    gpus = layout.tp * layout.cp
    if name is None:
        hops, waiting_w = PipelineHops(deployment), waiting_watts(deployment.gpu, deployment.limits)
        sends_s = {(a, b): hops.seconds(a, b) for a, b in permutations(range(layout.pp), 2)}
        found = Pipeline(
            programs, _priced(prices or ClockPrices(deployment)), waiting_w, gpus, sends_s=sends_s,
            sends_block=deployment.send_s > 0 and not deployment.overlap_p2p,
        )  # fmt: skip
        return found.kept_apart() if schedule.post_validates else found
    spec, stages = catalog.stage_profile(name), schedule.stages(layout.pp)
    if len(spec.stage_seconds) != stages:
        raise ImpossibleError(
            f"training.stage_profile: '{spec.name}' has {len(spec.stage_seconds)} stages, this pipeline {stages}; give"
            " one of as many, or change pipeline_parallel_size"
        )
    if schedule.splits_backward:
        raise ImpossibleError(
            f"training.stage_profile: '{spec.name}' has backwards as a whole, and the schedule runs their halves; take"
            " another schedule, or leave it out"
        )
    return Pipeline(programs, measured_passes(spec), spec.blocking_w, gpus)


def measured_passes(spec: StageProfileSpec) -> Passes:
    """Of each stage, from what one was measured to take; sends are part of it."""
    forward = PassProfile.of(spec.settings, spec.forward_s, spec.forward_j).in_steps(spec.step)
    backward = PassProfile.of(spec.settings, spec.backward_s, spec.backward_j).in_steps(spec.step)
    found: Passes = {}
    for stage, factors in enumerate(zip(spec.stage_seconds, spec.stage_joules, strict=True)):
        found[FORWARD, stage] = forward.scaled(*factors)
        found[BACKWARD, stage] = backward.scaled(*factors)
    return found


def _priced(prices: ClockPrices) -> Passes:
    """Of each stage, by the hardware models, at clocks from the one its power limit sustains downwards."""
    deployment, boost_mhz = prices.deployment, prices.boost_mhz
    columns: dict[tuple[str, int], list[PassPoint]] = {}
    for mhz in _clocks_mhz(deployment.clock * boost_mhz, LOWEST * boost_mhz):
        for stage, work in enumerate(prices.at(mhz)):
            for kind, spent in work.by_pass().items():
                if spent.seconds > 0:
                    limit_w = deployment.limits.watts
                    drawn_w = pass_watts(spent, spent.seconds, deployment.gpu, limit_w, mhz / boost_mhz)
                    columns.setdefault((kind, stage), []).append(PassPoint(mhz, spent.seconds, drawn_w * spent.seconds))
    return {key: PassProfile(tuple(points)).in_steps(STEP_MHZ) for key, points in columns.items()}


def _clocks_mhz(highest: float, lowest: float) -> list[float]:
    """From the highest down in even steps."""
    count = int((highest - lowest) / (STEP_MHZ * PRICED_EVERY)) + 1
    return [highest - STEP_MHZ * PRICED_EVERY * step for step in range(max(1, count))]
