"""`plan_training`: the fastest plan to train a scenario's model on its cluster, and what the search found besides."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from hardware_models.errors import ImpossibleError
from sim.plan.training.balanced import balanced_notes, try_balanced
from sim.plan.training.evaluator import SIMULATED, Evaluator, Grade, of_run
from sim.plan.training.mapped import with_mapping_free
from sim.plan.training.mapped_notes import mapped_notes
from sim.plan.training.plan import DISTURBANCES, TrainingPlan, own_plan
from sim.plan.training.search import Found, PlanSearch
from sim.plan.training.space import TrainingSpace
from sim.plan.training.workers import Workers
from sim.training.deployment import TrainingDeployment, deploy_training
from sim.training.node_mapping import deploy_mapped, ordered
from sim.training.simulate import simulate_deployment
from sim.training.stage_clocks import at_highest_clocks
from sim.training_scenario import TrainingScenario

FEW = 2_000  # plans that one process searches in no more time than more would take to start
MOST_WORKERS = 8
CLOCKS_LATER = (
    "plans are compared without power.stage_clocks, which make no step shorter; `fleetcast plan best.toml --energy`"
    " chooses clocks for the answer"
)


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """The answer."""

    scenario: TrainingScenario  # as asked
    space: TrainingSpace
    plans: int  # in the space
    found: Found
    own: Grade | None  # the plan that the scenario writes down, where it is one and can be run
    deployment: TrainingDeployment  # of the winner
    fixed: list[str]  # keys that stay as the scenario has them
    notes: list[str] = field(default_factory=list)

    @property
    def winner(self) -> Grade:
        """The fastest."""
        return self.found.best[0]

    @property
    def best(self) -> TrainingScenario:
        """A scenario that runs it."""
        scenario, mapping = self.winner.plan.scenario(self.scenario), self.winner.mapping
        return scenario if mapping is None else ordered(scenario, mapping.order)


def plan_training(
    scenario: TrainingScenario,
    space: TrainingSpace | None = None,
    *,
    top: int = 10,
    exhaustive: bool = False,
    workers: int | None = None,
    progress: Callable[[str], None] = lambda _text: None,
) -> PlannedTraining:
    """Search the space. workers: processes; None: as many as there are processors, where the space is worth it.

    Raises FleetcastError for a space that is none, ImpossibleError where no plan fits.
    """
    space, clocked = space or TrainingSpace(), scenario.power is not None and scenario.power.stage_clocks is not None
    scenario = at_highest_clocks(scenario)
    plans = space.plans(scenario)
    fixed = space.fixed(scenario)
    if not plans:
        deploy_training(scenario)  # says what is wrong with the plan itself
        raise ImpossibleError(
            "training: no plan divides the cluster, the batch and the model's layers and heads with"
            f" {', '.join(fixed) or 'these sizes'} as given; free one (--free), or change the batch or the nodes"
        )
    searched = scenario if "node_mapping" in fixed else with_mapping_free(scenario)
    evaluator = Evaluator(searched)
    count = workers or (min(len(os.sched_getaffinity(0)), MOST_WORKERS) if len(plans) > FEW else 1)
    if count > 1:
        with Workers(searched, plans, count) as pool:
            progress(f"{len(plans):,} plans")
            search = PlanSearch(
                evaluator, plans, top=top, exhaustive=exhaustive, at_once=count, next_level=pool.next_level,
                progress=progress,
            )  # fmt: skip
            bounds, refused = pool.bounds(plans)
            search.found.impossible.update(refused)
            found = search.run(bounds)
    else:
        found = PlanSearch(evaluator, plans, top=top, exhaustive=exhaustive, progress=progress).run()
    if not found.best:
        raise ImpossibleError(_nothing_fits(plans, found, fixed))
    progress("balanced splits of the best plans")
    balanced = try_balanced(evaluator, found, top)
    if found.best[0].mapping is not None:
        _replace(found, evaluator.beside_own_order(found.best[0]))
    return PlannedTraining(
        scenario, space, len(plans) + balanced, found, _own(scenario, found),
        evaluator.deployer.deploy(found.best[0].plan), fixed,
        [*_notes(scenario, fixed, found, balanced), *([CLOCKS_LATER] if clocked else [])],
    )  # fmt: skip


def _replace(found: Found, winner: Grade) -> None:
    """The answer, of which more is known."""
    for grades in (found.best, found.front, found.simulated):
        grades[:] = [winner if grade.plan == winner.plan else grade for grade in grades]


def _own(scenario: TrainingScenario, found: Found) -> Grade | None:
    """The scenario's own plan, simulated; None where it writes none down, or one that cannot be."""
    given = scenario.training.model_fields_set
    if not {"tensor_parallel_size", "pipeline_parallel_size"} & given:
        return None
    calm = scenario.training.model_copy(update={**DISTURBANCES, "check_memory": False})
    try:
        deployment, mapping = deploy_mapped(scenario.model_copy(update={"training": calm}))
    except ImpossibleError:
        return None
    plan = own_plan(scenario, deployment.cluster_gpus, deployment.layout.dp)
    known = (grade for grade in found.simulated if found.last == SIMULATED and _same(grade.plan, plan))
    return next(known, None) or of_run(plan, simulate_deployment(deployment, mapping), found.last)


def _same(one: TrainingPlan, other: TrainingPlan) -> bool:
    """But for how layers are split, which a plan of the scenario does not say."""
    return one.name == other.name and one.gpus == other.gpus and one.split in (None, "even")


def _notes(scenario: TrainingScenario, fixed: list[str], found: Found, balanced: int) -> list[str]:
    notes = [*balanced_notes(found, balanced), *mapped_notes(found.best[0])]
    if fixed:
        notes.append(f"fixed by the scenario: {', '.join(fixed)}; --free KEY searches one of them, --free all all")
    if any(getattr(scenario.training, key) for key in DISTURBANCES):
        notes.append("plans are compared on a cluster that is all alike: without slow GPUs, slow cards and jitter")
    return notes


def _nothing_fits(plans: list[TrainingPlan], found: Found, fixed: list[str]) -> str:
    """One sentence: the nearest miss, what fills its memory, and what would help."""
    if not found.too_large:
        reason, count = found.impossible.most_common(1)[0]
        return f"{reason} ({count:,} of {len(plans):,} plans; none can be)"
    plan, peak_bytes = min(found.too_large.items(), key=lambda item: item[1])
    bound = found.bounds[plan]
    state = bound.state_bytes > 0.5 * bound.peak_bytes
    what = "weights, gradients and optimizer state" if state else "activations"
    remedy = "more GPUs (cluster.nodes, --gpus)" if state or not fixed else f"--free {fixed[0]} (or --free all)"
    return (
        f"training: none of {len(plans):,} plans fits: the nearest, {plan.name}, needs {peak_bytes / 1e9:.1f} GB of the"
        f" {found.budget_bytes / 1e9:.1f} GB that tensors of a GPU may take, most of it {what}; what would help:"
        f" {remedy}, a smaller model, or GPUs with more memory"
    )
