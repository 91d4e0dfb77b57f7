"""Runs a training step: its graph by max-plus or on the clock, its memory, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware_models.errors import DoesNotFitError, ImpossibleError
from policies.parallelism.mapping import Mapping
from policies.task_graph import TaskGraph
from sim.graph.executor import execute
from sim.graph.max_plus import crowded_link
from sim.graph.memory import MemoryLedger
from sim.graph.order import compile_graph
from sim.graph.times import Times
from sim.training.data_parallel import Exchanges
from sim.training.deployment import TrainingDeployment
from sim.training.disturbed import PASSES, cards_crossed, copies_to_run, disturb, latest_copy, side_by_side
from sim.training.memory import MemoryUse, memory_use
from sim.training.node_mapping import deploy_mapped
from sim.training.power_smoothing import smoothing_of
from sim.training.stage_clocks import PassClocks, stage_clocks
from sim.training.step_graph import StepGraphBuilder, step_seconds
from sim.training.step_kinds import OPTIMIZER
from sim.training.unequal_links import UnequalLinks
from sim.training_scenario import TrainingScenario


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One step, run."""

    deployment: TrainingDeployment
    exchanges: Exchanges
    graph: TaskGraph
    times: Times
    memory: MemoryUse
    step_s: float  # from one step to the next
    undisturbed_s: float  # the same if all GPUs and links were alike
    mapping: Mapping | None = None  # of nodes, on a cluster whose links are unequal
    clocks: PassClocks | None = None  # of each pass; None: as fast as GPUs let them
    at_boost: TrainingRun | None = None  # beside it, the same step with all passes as fast as that


def simulate_training(scenario: TrainingScenario, *, exact: bool = False) -> TrainingRun:
    """Run one step; raises ImpossibleError for a plan that cannot be, DoesNotFitError for one beyond a GPU's memory.

    exact: on SimPy's clock even where nothing shares a link, and max-plus gives the same times.
    """
    deployment, mapping = deploy_mapped(scenario)
    return simulate_deployment(deployment, mapping, exact=exact)


def simulate_deployment(
    deployment: TrainingDeployment, mapping: Mapping | None = None, *, exact: bool = False
) -> TrainingRun:
    """The same of a scenario that is deployed; mapping: by which its nodes have their places.

    Where [power] chooses clocks pass by pass, the step is also run with all of them as fast as GPUs let them.
    """
    clocks = stage_clocks(deployment)
    if clocks is None:
        return simulate_at(deployment, None, mapping, exact=exact)
    hurried = simulate_at(deployment, None, mapping, exact=exact, straggler=clocks.straggler)
    run = simulate_at(deployment, clocks, mapping, exact=exact, straggler=clocks.straggler)
    return replace(run, at_boost=hurried)


def simulate_at(
    deployment: TrainingDeployment,
    clocks: PassClocks | None,
    mapping: Mapping | None = None,
    *,
    exact: bool = False,
    straggler: float = 1.0,
) -> TrainingRun:
    """A step whose passes run at these clocks; None: as fast as GPUs let them. straggler: as of `PassClocks`."""
    scenario = deployment.scenario
    builder = StepGraphBuilder(deployment, clocks)
    graph = builder.build()
    times = execute(graph) if exact else _run(graph)
    memory = memory_use(deployment, MemoryLedger(graph), times)
    if scenario.training.check_memory and not memory.fits:
        raise DoesNotFitError(does_not_fit(memory.verdict()))
    together = not deployment.schedule.post_validates
    step_s = alike_s = step_seconds(graph, times, together=together)
    training = scenario.training
    links = UnequalLinks.of(builder)
    beside = smoothing_of(scenario).longer_passes_fraction
    if straggler > 1.0:
        if links or beside:
            raise ImpossibleError(
                f"power.stage_clocks.straggler = {straggler:g}: goes neither with unequal links nor with filler"
                " kernels; leave it or them out"
            )
        times = _beside_straggler(graph, deployment, straggler, exact=exact)
    elif links or training.jitter_fraction or training.slow_gpus or training.slow_cards or beside:
        times = _disturbed(builder, links, exact=exact)
    step_s = step_seconds(graph, times, together=together)
    return TrainingRun(deployment, builder.exchanges, graph, times, memory, step_s, alike_s, mapping, clocks)


def _beside_straggler(graph: TaskGraph, deployment: TrainingDeployment, straggler: float, *, exact: bool) -> Times:
    """Times of a copy that waits, wherever copies meet, for one whose passes take so many times as long as at their
    highest clocks.
    """
    many, count = side_by_side(graph, 2), len(graph)
    hurried = StepGraphBuilder(deployment).build().duration_s
    many.duration_s[count : 2 * count] = [
        seconds * straggler if kind in PASSES - {OPTIMIZER} else seconds
        for seconds, kind in zip(hurried, graph.kind, strict=True)
    ]
    ran = execute(many) if exact else _run(many)
    return Times(ran.start_s[:count], ran.end_s[:count], ran.makespan_s)


def _disturbed(builder: StepGraphBuilder, links: UnequalLinks | None, *, exact: bool) -> Times:
    """Times of the copy that keeps the others waiting; its durations replace those of the graph."""
    graph, deployment = builder.graph, builder.deployment
    training = deployment.scenario.training
    named = bool(training.jitter_fraction or training.slow_gpus or training.slow_cards)
    crossing = cards_crossed(graph, deployment, builder.receivers, builder.exchanges.collectives)
    pipelines = list(range(copies_to_run(deployment, len(graph), crossing, unequal=named and links is not None)))
    if links is not None and not named:
        pipelines = links.pipelines()
    many = side_by_side(graph, copies := len(pipelines))
    disturb(many, deployment, len(graph), crossing, {} if links is None else links.factors(pipelines))
    ran = execute(many) if exact else _run(many)
    graph.duration_s, times = latest_copy(many, ran, len(graph), copies)
    return times


def does_not_fit(verdict: str) -> str:
    """What is said of a plan beyond a GPU's memory; verdict: as of `MemoryUse.verdict`."""
    return (
        f"training: {verdict}; cut the model finer, recompute, shard more, or set training.check_memory = false to run"
        " it all the same"
    )


def _run(graph: TaskGraph) -> Times:
    """By max-plus where nothing waits for its part of a link, else on the clock."""
    times = compile_graph(graph).times(graph.duration_s)
    return times if crowded_link(graph, times) is None else execute(graph)
