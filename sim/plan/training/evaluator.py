"""From a plan to its seconds and bytes, by levels of rising cost: what each says of the seconds bounds the next.

Passes alone (`Bounds`), with exchanges (`exchange_bound_s`), the longest path through the step's graph as if nothing
shared a link (`Paths`), and the step itself, simulated. On a cluster whose links are unequal all these take links as
fast as the fastest, and a last level places the nodes and simulates again (`sim.plan.training.mapped`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hardware_models.errors import ImpossibleError
from policies.parallelism.mapping import Mapping
from sim.graph.order import compile_graph
from sim.plan.training.alive import alive, in_order
from sim.plan.training.bounds import ROUNDING, Bound, Bounds
from sim.plan.training.deployer import Deployer
from sim.plan.training.exchange_bound import exchange_bound_s
from sim.plan.training.mapped import has_unequal_links, in_own_order, map_nodes, with_equal_links
from sim.plan.training.plan import TrainingPlan
from sim.plan.training.steady import Repetition, SteadyStep, repeats, shortened
from sim.plan.training.structure import StepStructure, UnlikeError, structure_key
from sim.training.data_parallel import Exchanges
from sim.training.deployment import TrainingDeployment
from sim.training.memory import held_bytes
from sim.training.simulate import TrainingRun, simulate_deployment
from sim.training.step_graph import StepGraphBuilder
from sim.training.summary import summarise
from sim.training_scenario import TrainingScenario

PASSES, EXCHANGES, PATH, SIMULATED, MAPPED = range(5)  # levels; the last where links are unequal


@dataclass(frozen=True, slots=True)
class Grade:
    """What is known of a plan at one level."""

    plan: TrainingPlan
    level: int
    step_s: float  # a lower bound but at the last level
    peak_bytes: float  # of the fullest GPU
    fits: bool = True
    refused: str = ""  # why the plan cannot be
    summary: dict[str, Any] = field(default_factory=dict, repr=False)  # of the last level
    mapping: Mapping | None = None  # of nodes, at the level MAPPED
    own_order_s: float = 0.0  # of the answer there: the step's seconds with every node at its own place


class Evaluator:
    """Grades plans of one scenario."""

    def __init__(self, base: TrainingScenario) -> None:
        training = base.training.model_copy(update={"check_memory": False})  # what does not fit is a result here
        self.base = base.model_copy(update={"training": training})
        self.last = MAPPED if has_unequal_links(base) else SIMULATED
        self.deployer = Deployer(with_equal_links(self.base))
        self.bounds = Bounds(self.deployer)
        self.paths = Paths()

    def bound(self, plan: TrainingPlan) -> Bound:
        """Passes alone; raises ImpossibleError for layers that cannot be split so."""
        return self.bounds.of(plan)

    def next(self, grade: Grade) -> Grade:
        """One level up; a plan that cannot be is said to be at the last."""
        try:
            if grade.level == SIMULATED:
                return self._mapped(grade.plan)
            deployment = self.deployer.deploy(grade.plan)
            if grade.level == PASSES:
                return self._with_exchanges(grade, deployment)
            return self._path(grade, deployment) if grade.level == EXCHANGES else simulated(grade.plan, deployment)
        except ImpossibleError as error:
            return Grade(grade.plan, SIMULATED, grade.step_s, grade.peak_bytes, fits=False, refused=str(error))

    def _with_exchanges(self, grade: Grade, deployment: TrainingDeployment) -> Grade:
        peak_bytes = grade.peak_bytes
        if in_order(deployment.schedule):
            peak_bytes = max(peak_bytes, peak_in_order_bytes(deployment) * (1 - ROUNDING))
        step_s = max(grade.step_s, exchange_bound_s(deployment, self.bounds.shape(grade.plan)))
        return Grade(grade.plan, EXCHANGES, step_s, peak_bytes, peak_bytes <= deployment.budget_bytes)

    def _path(self, grade: Grade, deployment: TrainingDeployment) -> Grade:
        step_s = grade.step_s
        if not deployment.schedule.post_validates:  # else a step is no longest path
            step_s = max(step_s, self.paths.step_s(deployment) * (1 - ROUNDING))
        return Grade(grade.plan, PATH, step_s, grade.peak_bytes)

    def _mapped(self, plan: TrainingPlan) -> Grade:
        run = map_nodes(plan.scenario(self.base))
        return replace(of_run(plan, run, MAPPED), mapping=run.mapping)

    def beside_own_order(self, grade: Grade) -> Grade:
        """A plan whose nodes are placed, or the same with every node at its own place, if that is faster."""
        run = in_own_order(grade.plan.scenario(self.base))
        if run.step_s < grade.step_s:
            grade = replace(of_run(grade.plan, run, MAPPED), mapping=run.mapping)
        return replace(grade, own_order_s=run.step_s)


def simulated(plan: TrainingPlan, deployment: TrainingDeployment) -> Grade:
    """The step on links that are alike."""
    return of_run(plan, simulate_deployment(deployment), SIMULATED)


def of_run(plan: TrainingPlan, run: TrainingRun, level: int) -> Grade:
    """What a simulated step says of a plan."""
    peak = run.memory.peaks[run.memory.worst]
    return Grade(plan, level, run.step_s, peak.used_bytes, run.memory.fits, summary=summarise(run))


def peak_in_order_bytes(deployment: TrainingDeployment) -> float:
    """The most that a GPU holds at once, of a schedule whose order is known beforehand."""
    exchanges, stages, pp = Exchanges(deployment), deployment.stages, deployment.layout.pp
    held = np.array([sum(held_bytes(deployment, exchanges, device).values()) for device in range(pp)])
    more = alive(deployment.schedule, pp, deployment.layout.micro_batches).peak_bytes(
        np.array([one.activation_bytes for one in stages]), np.array([one.working_bytes for one in stages])
    )
    return float((held + more).max())


class Paths:
    """Longest paths through steps; steps of the same tasks are built once."""

    def __init__(self) -> None:
        self._structures: dict[tuple[Any, ...], StepStructure | SteadyStep] = {}
        self._once: set[tuple[Any, ...]] = set()  # keys of steps that have come once

    def step_s(self, deployment: TrainingDeployment) -> float:
        """Seconds of the step, as if nothing shared a link."""
        repetition = repeats(deployment)
        built = deployment if repetition is None else shortened(deployment, repetition)
        key = structure_key(built) if in_order(deployment.schedule) else None
        if key is None or (repetition is None and key not in self._once):
            self._once |= {key} if key is not None else set()
            return _path_s(StepGraphBuilder(deployment))
        if key not in self._structures:
            builder = StepGraphBuilder(built)
            builder.build()
            try:
                self._structures[key] = _structure(builder, repetition)
            except UnlikeError:  # exchanges in several hops: built anew each time
                return _path_s(builder if repetition is None else StepGraphBuilder(deployment))
        return self._structures[key].step_s(deployment)


def _structure(builder: StepGraphBuilder, repetition: Repetition | None) -> StepStructure | SteadyStep:
    structure = StepStructure(builder)
    return structure if repetition is None else SteadyStep(structure, repetition)


def _path_s(builder: StepGraphBuilder) -> float:
    graph = builder.graph if len(builder.graph) > len(builder.graph.streams) else builder.build()
    return max(compile_graph(graph).longest_paths(graph.duration_s))
