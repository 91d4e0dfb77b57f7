"""A step's graph without its durations: built once, evaluated for every plan whose step has the same tasks.

Each task's duration has a name, such as a stage's forward in so many parts; a plan's step is then a table of named
seconds and one walk along the longest paths. Links that tasks share are left out, so what comes out is a step's
seconds where nothing crowds them, and never more than its seconds where something does.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from policies.parallelism.schedules import Slot
from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph.order import Compiled, compile_graph
from sim.training.data_parallel import Exchanges
from sim.training.deployment import TrainingDeployment
from sim.training.pipeline_hops import PipelineHops
from sim.training.step_graph import StepGraphBuilder, slot_times
from sim.training.step_kinds import (
    GATHER,
    GRAD_NORM,
    HOST,
    OPTIMIZER,
    REDUCE,
    SEND_BACKWARD,
    SEND_FORWARD,
    TIED,
)

Name = tuple[Any, ...]  # kind, then whose: a stage and the parts it is cut into, or devices
SENDS = (SEND_FORWARD, SEND_BACKWARD)
PASS, NOTHING, DEVICE = "pass", "nothing", "device"
TOLERANCE = 1e-9  # relative, between a task's duration and that of its name


class UnlikeError(Exception):
    """A step has tasks whose durations have no name, or blocks that are not alike."""


class StepStructure:
    """Tasks of a step, in order, with the names of their durations."""

    def __init__(self, builder: StepGraphBuilder) -> None:
        """Of a step that is built; raises UnlikeError where tasks take anything but what their names say."""
        self.graph: TaskGraph = builder.graph
        self.compiled: Compiled = compile_graph(self.graph)
        self.programs, self.first, self.last = builder.programs, builder.first, builder.last
        self.names_of_tasks = _Names(builder).of_tasks()
        self.names: list[Name] = list(dict.fromkeys(self.names_of_tasks))
        code = {name: number for number, name in enumerate(self.names)}
        self.codes = [code[name] for name in self.names_of_tasks]
        self._check(builder.deployment)

    def table_s(self, deployment: TrainingDeployment) -> list[float]:
        """Seconds of each name, for a deployment whose `structure_key` is the same."""
        value = named_seconds(deployment)
        return [value(name) for name in self.names]

    def step_s(self, deployment: TrainingDeployment) -> float:
        """Seconds of the step, as if every transfer were alone on its links."""
        return self.longest_s(self.table_s(deployment))

    def longest_s(self, table_s: list[float]) -> float:
        """Seconds of the longest path, where names take so long."""
        return max(self.compiled.longest_paths([table_s[code] for code in self.codes]))

    def _check(self, deployment: TrainingDeployment) -> None:
        table_s = self.table_s(deployment)
        for task, (code, seconds) in enumerate(zip(self.codes, self.graph.duration_s, strict=True)):
            if abs(table_s[code] - seconds) > TOLERANCE * seconds:
                raise UnlikeError(f"task '{self.graph.name[task]}' takes {seconds} s, not {table_s[code]} s")


def structure_key(deployment: TrainingDeployment) -> tuple[Any, ...]:
    """Deployments with the same key have steps of the same tasks."""
    exchanges, layout = Exchanges(deployment), deployment.layout
    stages = range(len(deployment.stages))
    sends_s = PipelineHops(deployment).to_stages_s()
    return (
        deployment.schedule, layout.pp, layout.micro_batches, exchanges.ranks, layout.expert_copies,
        deployment.sharding, deployment.scenario.training.gradient_reduce.name,
        deployment.overlap_grad_reduce, deployment.overlap_param_gather, deployment.overlap_p2p,
        tuple(one > 0 for one in sends_s), exchanges.tied_s > 0,
        tuple(exchanges.buckets(stage, exchanges.weight_width) for stage in stages),
        tuple(exchanges.buckets(stage, exchanges.gradient_width) for stage in stages),
        deployment.stage_layers if exchanges.zero == 3 else None,
    )  # fmt: skip


def named_seconds(deployment: TrainingDeployment) -> Callable[[Name], float]:
    """What each name takes in a deployment."""
    exchanges, columns = Exchanges(deployment), slot_times(deployment).columns_s()
    hops = PipelineHops(deployment)

    def parts(name: Name) -> tuple[float, float]:
        if name[1] == DEVICE:
            return exchanges.device_parameters(name[2]), exchanges.device_experts(name[2])
        work = deployment.stages[name[1]]
        return work.parameters / name[2], work.expert_parameters / name[2]

    seconds: dict[str, Callable[[Name], float]] = {
        PASS: lambda name: columns[name[1]][name[2]] / name[3],
        SEND_FORWARD: lambda name: hops.seconds(name[1], name[2]),
        GATHER: lambda name: exchanges.gather_s(*parts(name)),
        REDUCE: lambda name: exchanges.reduce_s(*parts(name)),
        OPTIMIZER: lambda name: exchanges.optimizer_s(name[1]),
        HOST: lambda _: deployment.framework.host_s_per_step,
        TIED: lambda _: exchanges.tied_s,
        GRAD_NORM: lambda _: exchanges.norm_s,
        NOTHING: lambda _: 0.0,
    }
    return lambda name: seconds[name[0]](name)


class _Names:
    """Finds out which of a deployment's figures each task of a built step takes."""

    def __init__(self, builder: StepGraphBuilder) -> None:
        self.builder, self.graph = builder, builder.graph
        self.by_stage = builder.deployment.overlap_grad_reduce or builder.exchanges.zero >= 2

    def of_tasks(self) -> list[Name]:
        """One name a task."""
        graph = self.graph
        names: list[Name] = [(NOTHING,)] * len(graph)
        slots: list[Slot] = list(chain.from_iterable(self.builder.programs))
        for slot, first, last in zip(slots, self.builder.first, self.builder.last, strict=True):
            own = [task for task in range(first, last + 1) if graph.kind[task] == slot.work]
            for task in own:
                names[task] = (PASS, slot.work, slot.stage, len(own))
                for other in graph.after[task]:
                    if graph.kind[other] == GATHER:
                        names[other] = (GATHER, slot.stage, len(own))
        for task, kind in enumerate(graph.kind):
            if names[task] == (NOTHING,):
                names[task] = self._other(task, kind, names)
        return names

    def _other(self, task: int, kind: str, names: list[Name]) -> Name:
        stream = self.graph.stream[task]
        device = self.graph.streams[stream].device if stream != NO_STREAM else -1
        if kind in SENDS:
            return SEND_FORWARD, device, self.builder.receivers[task]
        if kind == REDUCE and self.by_stage:
            before = self.graph.after[task]  # nothing, of what runs beside a whole step
            source = names[before[0]] if before else (NOTHING,)
            return (REDUCE, source[2], source[3]) if source[0] == PASS else (NOTHING,)
        if kind in (GATHER, REDUCE):
            return kind, DEVICE, device
        if kind == OPTIMIZER:
            return OPTIMIZER, device
        return (kind,) if kind in (HOST, TIED, GRAD_NORM) else (NOTHING,)
