"""Steps of a cluster that is not all alike: slow GPUs, slow network cards, times that vary from pass to pass.

Copies of the model that differ are run side by side in one graph, and meet where they exchange gradients or weights:
an exchange begins when the last copy is ready. What varies is drawn for every pass and GPU; tensor-parallel neighbours
go together, so that a pass takes as long as the slowest of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hardware_models.collective_times import NETWORKS
from hardware_models.collectives import AnyFabric, HierarchicalFabric
from hardware_models.errors import FleetcastError
from policies.parallelism.schedules import BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD
from policies.task_graph import NO_STREAM, MemoryChange, Pool, Stream, TaskGraph, Transfer
from sim.graph.times import Times
from sim.training.deployment import TrainingDeployment
from sim.training.pipeline_hops import PipelineHops
from sim.training.power_smoothing import smoothing_of
from sim.training.step_kinds import GATHER, GRAD_NORM, OPTIMIZER, REDUCE, SEND_BACKWARD, SEND_FORWARD, TIED
from workloads.randomness import stream

PASSES = {FORWARD, BACKWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, OPTIMIZER}
SENDS = {SEND_FORWARD, SEND_BACKWARD}
TOGETHER = {GATHER, REDUCE, TIED, GRAD_NORM}
MAX_TASKS = 4_000_000  # of all copies: more take minutes and gigabytes


def cards_crossed(
    graph: TaskGraph, deployment: TrainingDeployment, receivers: Mapping[int, int], exchanges: Iterable[int]
) -> dict[int, tuple[int, ...]]:
    """Tasks whose bytes leave a server -> the devices whose cards they cross.

    receivers: task of a send -> the device it goes to; exchanges: tasks in which copies exchange.
    """
    hops = PipelineHops(deployment)
    always = leaves_server(deployment.pipeline_fabric)
    senders = {task: graph.streams[graph.stream[task]].device for task in receivers}
    crossing: dict[int, tuple[int, ...]] = {
        task: (senders[task], to) for task, to in receivers.items() if always or hops.leaves(senders[task], to)
    }
    if leaves_server(deployment.data_fabric):
        crossing |= {task: (graph.streams[graph.stream[task]].device,) for task in exchanges}
    return crossing


def copies_to_run(
    deployment: TrainingDeployment, tasks: int, crossing: Mapping[int, tuple[int, ...]], *, unequal: bool
) -> int:
    """Copies that differ, and one for all that do not; raises FleetcastError where there are too many, and for cards
    that nothing crosses.

    unequal: do links between nodes differ too?
    """
    training, copies = deployment.scenario.training, deployment.layout.dp
    named = [one.replica for one in (*training.slow_gpus, *training.slow_cards)]
    for one in (*training.slow_gpus, *training.slow_cards):
        if one.replica >= copies or one.stage >= deployment.layout.pp:
            raise FleetcastError(
                f"training.slow_gpus, slow_cards: stage {one.stage} of replica {one.replica} is none of"
                f" {deployment.layout.pp} stages of {copies} replicas, which count from 0"
            )
    if training.slow_cards and not crossing:
        raise FleetcastError(
            "training.slow_cards: neither sends between stages nor exchanges between copies leave a server in this"
            " layout; leave it out"
        )
    wanted = copies if training.jitter_fraction or unequal else min(copies, max(named, default=-1) + 2)
    if wanted * tasks > MAX_TASKS:
        raise FleetcastError(
            f"training.jitter_fraction: {wanted} replicas of {tasks:,} tasks are more than {MAX_TASKS:,} tasks; ask for"
            " a smaller global_batch_size or data_parallel_size"
        )
    return wanted


def leaves_server(*fabrics: AnyFabric | None) -> bool:
    """Does any of these cross a network card?"""
    outer = [one.outer if isinstance(one, HierarchicalFabric) else one for one in fabrics]
    return any(one is not None and one.link.kind in NETWORKS for one in outer)


def side_by_side(graph: TaskGraph, copies: int) -> TaskGraph:
    """So many copies of a step's graph, which begin their exchanges together; copy after copy, joins at the end."""
    tasks, streams = len(graph), len(graph.streams)
    pools, links = len(graph.pools), len(graph.links)
    devices = 1 + max((one.device for one in graph.streams), default=-1)
    many = TaskGraph(
        duration_s=graph.duration_s * copies,
        kind=graph.kind * copies,
        name=graph.name * copies,
        priority=graph.priority * copies,
    )
    for copy in range(copies):
        shift = copy * devices
        many.streams += [Stream(one.device + shift, one.name, one.by_priority) for one in graph.streams]
        many.pools += [Pool(one.device + shift, one.name, one.budget_bytes) for one in graph.pools]
        many.links += [replace(one, name=f"{one.name} of copy {copy}") for one in graph.links]
        many.stream += [one if one == NO_STREAM else one + copy * streams for one in graph.stream]
        many.after += [[other + copy * tasks for other in after] for after in graph.after]
        many.memory += [
            MemoryChange(one.task + copy * tasks, one.pool + copy * pools, one.change_bytes, one.owner)
            for one in graph.memory
        ]
        for task, one in graph.transfer.items():
            crossed = tuple(link + copy * links for link in one.links)
            many.transfer[task + copy * tasks] = Transfer(crossed, one.size_bytes, one.latency_s)
    _join(many, [task for task, kind in enumerate(graph.kind) if kind in TOGETHER], tasks, copies)
    return many


def _join(graph: TaskGraph, together: Iterable[int], tasks: int, copies: int) -> None:
    for task in together:
        own = [task + copy * tasks for copy in range(copies)]
        ready = graph.add(NO_STREAM, 0.0, "all copies are ready", [other for one in own for other in graph.after[one]])
        for one in own:
            graph.after[one] = [ready]


def disturb(
    graph: TaskGraph,
    deployment: TrainingDeployment,
    tasks: int,
    crossing: Mapping[int, tuple[int, ...]],
    links: Mapping[int, float],
) -> None:
    """Change the durations of copies side by side, of so many tasks each, as the scenario says.

    links: tasks that links between nodes make longer -> so many times.
    """
    training, layout = deployment.scenario.training, deployment.layout
    factor = np.ones(len(graph))
    device = np.array([graph.streams[one].device if one != NO_STREAM else -1 for one in graph.stream])
    kind = np.array(graph.kind)
    passes = np.isin(kind, list(PASSES))

    def slow_down(tasks: NDArray[np.bool_], times: float) -> None:
        factor[tasks] = np.maximum(factor[tasks], times)

    for task, times in links.items():
        factor[task] = times
    for slow in training.slow_gpus:
        slow_down(passes & (device == slow.replica * layout.pp + slow.stage), slow.slowdown)
    for card in training.slow_cards:
        for task, crossed in crossing.items():
            if card.stage not in crossed:
                continue
            exchange = kind[task] not in SENDS  # of all copies: a ring is as fast as its slowest link
            replicas = range(len(graph) // tasks) if exchange else (card.replica,)
            for replica in replicas:
                factor[task + replica * tasks] = max(factor[task + replica * tasks], card.slowdown)
    if training.jitter_fraction:
        draws = stream(deployment.scenario.seed, "jitter").standard_normal((int(passes.sum()), layout.tp * layout.cp))
        factor[passes] *= np.exp(training.jitter_fraction * draws.max(axis=1))
    factor[passes] *= 1.0 + smoothing_of(deployment.scenario).longer_passes_fraction
    for task in np.flatnonzero(factor != 1.0).tolist():
        _stretch(graph, task, float(factor[task]))


def _stretch(graph: TaskGraph, task: int, factor: float) -> None:
    if (flow := graph.transfer.get(task)) is not None:
        size, latency_s = flow.size_bytes * factor, flow.latency_s * factor
        graph.transfer[task] = Transfer(flow.links, size, latency_s)
        graph.duration_s[task] = latency_s + (graph.duration_s[task] - flow.latency_s) * factor
        return
    graph.duration_s[task] *= factor


def latest_copy(graph: TaskGraph, times: Times, tasks: int, copies: int) -> tuple[list[float], Times]:
    """Of the copy that kept the others waiting: durations of its tasks, and when they ran."""
    kind = graph.kind[:tasks]
    passes = [task for task in range(tasks) if kind[task] in PASSES - {OPTIMIZER}]
    ends = [max((times.end_s[task + copy * tasks] for task in passes), default=0.0) for copy in range(copies)]
    at = ends.index(max(ends)) * tasks
    own = slice(at, at + tasks)
    return graph.duration_s[own], Times(times.start_s[own], times.end_s[own], times.makespan_s)
