"""How much energy a training plan's pipeline draws for each length of its iteration, a clock chosen for every pass.

Passes cost what the scenario's stage profile measured, or what the hardware models make of them: seconds at each clock
from the operators, watts from what the passes do in those seconds. Copies of the model do the same at the same time;
exchanges among them and the optimizer come on top of an iteration and are not part of it.
"""

from __future__ import annotations

from hardware_models import catalog
from hardware_models.errors import ImpossibleError
from hardware_models.power import Activity, PowerModel, power_model
from hardware_models.specs import GpuSpec
from hardware_models.stage_profile_spec import StageProfileSpec
from policies.parallelism.schedules import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD
from policies.power.perseus import Frontier, frontier
from policies.power.perseus_pipeline import Pipeline
from policies.power.perseus_profile import PassPoint, PassProfile
from sim.training.deployment import TrainingDeployment, split_stages
from sim.training.pricing import Spent
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


def pipeline_of(deployment: TrainingDeployment) -> Pipeline:
    """One copy of the model with a profile of each of its passes; raises ImpossibleError where a schedule makes devices
    wait for one another in other ways than for results, or where a measured profile is of another pipeline.
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
        watts = power_model(deployment.gpu)
        return Pipeline(programs, _priced(deployment, watts), watts.awake_w, gpus, deployment.send_s)
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


def _priced(deployment: TrainingDeployment, watts: PowerModel) -> Passes:
    """Of each stage, by the hardware models, at clocks from the one its power limit sustains downwards."""
    parts = split_stages(deployment.scenario, deployment.pricer, deployment.schedule.stages(deployment.layout.pp))
    boost_mhz = deployment.gpu.boost_clock_hz / 1e6
    columns: dict[tuple[str, int], list[PassPoint]] = {}
    for mhz in _clocks_mhz(deployment.clock * boost_mhz, LOWEST * boost_mhz):
        clock = mhz / boost_mhz
        pricer = deployment.pricer.at_clock(clock)
        works = stage_works(pricer, parts, deployment.schedule, deployment.layout.pp)
        for stage, work in enumerate(works):
            for kind, spent in _passes(work).items():
                if spent.seconds > 0:
                    point = PassPoint(mhz, spent.seconds, _joules(spent, clock, watts, deployment.gpu))
                    columns.setdefault((kind, stage), []).append(point)
    return {key: PassProfile(tuple(points)).in_steps(STEP_MHZ) for key, points in columns.items()}


def _clocks_mhz(highest: float, lowest: float) -> list[float]:
    """From the highest down in even steps."""
    count = int((highest - lowest) / (STEP_MHZ * PRICED_EVERY)) + 1
    return [highest - STEP_MHZ * PRICED_EVERY * step for step in range(max(1, count))]


def _passes(work: StageWork) -> dict[str, Spent]:
    return {
        FORWARD: work.forward,
        BACKWARD: work.backward,
        BACKWARD_INPUT: work.backward_input,
        BACKWARD_WEIGHT: work.backward_weight,
    }


def _joules(spent: Spent, clock: float, watts: PowerModel, gpu: GpuSpec) -> float:
    """Of one GPU in a pass, by its mean activity."""
    compute = min(1.0, spent.peak_s / spent.seconds)
    memory = min(1.0, spent.moved_bytes / spent.seconds / gpu.memory_bandwidth_bytes_per_s)
    return float(watts.watts(Activity(1.0, compute, memory), clock)) * spent.seconds
