"""Exchanges between copies of the model: gradients reduced, weights gathered, whole or layer by layer beside the work.

Bucketed, overlapped reduction: PyTorch DDP (arXiv 2006.15704); sharded gathering with prefetch: ZeRO (arXiv
1910.02054) and FSDP (arXiv 2304.11277).
"""

from __future__ import annotations

import math

from hardware_models.device import Device
from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import Elementwise
from policies.parallelism.schedules import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Slot
from policies.task_graph import NO_STREAM, TaskGraph
from sim.training.deployment import TrainingDeployment
from sim.training.step_kinds import GATHER, REDUCE


class Exchanges:
    """Writes the exchanges of each stage's rank into a step's graph, and splits passes where they overlap."""

    def __init__(self, deployment: TrainingDeployment) -> None:
        self.deployment = deployment
        layout, framework = deployment.layout, deployment.framework
        self.ranks = layout.dp * layout.cp
        self.zero = deployment.sharding.stage if self.ranks > 1 else 0
        self.weight_width = bytes_per_element(deployment.cut.dtype)
        self.gradient_width = bytes_per_element(framework.gradient_reduce_dtype)
        self._device = Device(deployment.gpu)
        self.collectives: dict[int, str] = {}  # task -> kind of what copies exchange in it
        self._reduced: dict[int, list[int]] = {}  # device -> its reductions
        self._gathered: dict[int, list[int]] = {}  # stage -> gathers that parts of its first forward wait for
        self._computed: dict[int, list[int]] = {}  # stream -> its parts in order, which bound how far gathers run ahead

    def device_parameters(self, device: int) -> float:
        """Of all stages that a device holds."""
        schedule, pp = self.deployment.schedule, self.deployment.layout.pp
        return sum(self.deployment.stages[stage].parameters for stage in schedule.stages_on(device, pp))

    def gather_s(self, parameters: float) -> float:
        """Seconds to make weights whole of which each rank has a part."""
        return self._exchange_s("all_gather", parameters * self.weight_width)

    def reduce_s(self, parameters: float) -> float:
        """Seconds to add up gradients: whole on every rank, or each rank its part."""
        return self._exchange_s("reduce_scatter" if self.zero else "all_reduce", parameters * self.gradient_width)

    def optimizer_s(self, device: int) -> float:
        """Seconds of one pass over gradients, moments and weights."""
        mine = self.deployment.sharding.optimizer_parameters(self.device_parameters(device), self.ranks)
        moved = mine * self.deployment.framework.optimizer_bytes_per_parameter
        passes = Elementwise(elements=moved / 4.0, reads=1, writes=0, dtype="fp32", streaming=True)
        return float(self._device.price(passes).seconds)

    @property
    def tied_s(self) -> float:
        """Seconds in which the first and last stage add up the gradients of a table they share."""
        fabric, stages = self.deployment.pipeline_fabric, self.deployment.stages
        if fabric is None or not stages[0].tied_bytes:
            return 0.0
        return float(fabric.seconds("all_reduce", stages[0].tied_bytes))

    @property
    def norm_s(self) -> float:
        """Seconds in which all ranks agree on the gradients' norm."""
        fabrics = [one for one in (self.deployment.data_fabric, self.deployment.pipeline_fabric) if one is not None]
        return sum(float(one.seconds("all_reduce", 8.0)) for one in fabrics)

    def unsure_s(self, device: int) -> float:
        """Seconds that one standard deviation of the links between copies moves a step's exchanges."""
        fabric = self.deployment.data_fabric
        if fabric is None:
            return 0.0
        payload = self.device_parameters(device) * self.gradient_width
        return float(fabric.sigma("all_gather", payload)) * self.reduce_s(self.device_parameters(device))

    def begin(self, graph: TaskGraph, data: int, compute: int, device: int, host: int) -> None:
        """Weights that an earlier step's optimizer left in parts are gathered before, or beside, the first forwards."""
        if self.zero not in (1, 2):
            return
        deployment = self.deployment
        if not deployment.overlap_param_gather:
            gather = self._gather(graph, data, self.device_parameters(device), [host])
            graph.add(compute, 0.0, "weights are whole", [gather])
            return
        for stage in deployment.schedule.stages_on(device, deployment.layout.pp):
            parts = self._buckets(stage, self.weight_width)
            share = deployment.stages[stage].parameters / parts
            self._gathered[stage] = [self._gather(graph, data, share, [host]) for _ in range(parts)]

    def compute(
        self, graph: TaskGraph, compute: int, data: int, slot: Slot, seconds: float, *, final: bool
    ) -> list[int]:
        """A pass as one task, or as one a part of its layers between which exchanges go."""
        name = f"{slot.work} {slot.micro_batch} stage {slot.stage}"
        if self.zero == 3:
            return self._gathering(graph, compute, data, slot, seconds, name)
        waits = self._gathered.pop(slot.stage, []) if slot.work == FORWARD else []
        reduces = self._reduces(slot, final)
        overlapped = reduces and self.deployment.overlap_grad_reduce
        parts = len(waits) or (self._buckets(slot.stage, self.gradient_width) if overlapped else 1)
        tasks = [
            graph.add(compute, seconds / parts, slot.work, waits[part : part + 1], name=name) for part in range(parts)
        ]
        if reduces:
            self._reduce_parts(graph, compute, data, slot.stage, tasks, overlapped=bool(overlapped))
        return tasks

    def reduce(self, graph: TaskGraph, data: int, device: int, last: int) -> int:
        """The task after which a device's gradients are whole."""
        if self.ranks == 1:
            return last
        if own := self._reduced.get(device):
            return graph.add(NO_STREAM, 0.0, "gradients are whole", [last, *own])
        return self._reduce(graph, data, self.device_parameters(device), last)

    def _reduces(self, slot: Slot, final: bool) -> bool:
        """Does this pass leave gradients that go at once?"""
        if self.ranks == 1 or slot.work in (FORWARD, BACKWARD_INPUT):
            return False
        return self.zero == 2 or (final and self.deployment.overlap_grad_reduce)

    def _reduce_parts(
        self, graph: TaskGraph, compute: int, data: int, stage: int, tasks: list[int], *, overlapped: bool
    ) -> None:
        share = self.deployment.stages[stage].parameters / len(tasks)
        device = graph.streams[compute].device
        for task in tasks:
            reduce = self._reduce(graph, data, share, task)
            self._reduced.setdefault(device, []).append(reduce)
            if not overlapped:
                graph.add(compute, 0.0, "gradients are reduced", [reduce])

    def _gathering(self, graph: TaskGraph, compute: int, data: int, slot: Slot, seconds: float, name: str) -> list[int]:
        """Layer by layer: its weights are gathered, while at most `prefetch` layers before it compute."""
        parts = self.deployment.stage_layers[slot.stage]
        parameters = self.deployment.stages[slot.stage].parameters / parts
        done = self._computed.setdefault(compute, [])
        ahead = self.deployment.sharding.prefetch
        device, tasks = graph.streams[compute].device, []
        for _ in range(parts):
            before = [done[-1 - ahead]] if len(done) > ahead else []
            waits = [] if slot.work == BACKWARD_WEIGHT else [self._gather(graph, data, parameters, before)]
            tasks.append(graph.add(compute, seconds / parts, slot.work, waits, name=name))
            done.append(tasks[-1])
        if slot.work not in (FORWARD, BACKWARD_INPUT):
            reduced = [self._reduce(graph, data, parameters, task) for task in tasks]
            self._reduced.setdefault(device, []).extend(reduced)
        return tasks

    def _gather(self, graph: TaskGraph, data: int, parameters: float, after: list[int]) -> int:
        task = graph.add(data, self.gather_s(parameters), GATHER, after)
        self.collectives[task] = "all_gather"
        return task

    def _reduce(self, graph: TaskGraph, data: int, parameters: float, after: int) -> int:
        task = graph.add(data, self.reduce_s(parameters), REDUCE, [after])
        self.collectives[task] = "reduce_scatter" if self.zero else "all_reduce"
        return task

    def _buckets(self, stage: int, width: float) -> int:
        """Into how many parts a stage's exchange is cut: buckets of the framework's size, at most one a layer."""
        size = self.deployment.stages[stage].parameters * width
        wanted = math.ceil(size / self.deployment.framework.bucket_bytes)
        return max(1, min(self.deployment.stage_layers[stage], wanted))

    def _exchange_s(self, kind: str, payload_bytes: float) -> float:
        fabric = self.deployment.data_fabric
        return float(fabric.seconds(kind, payload_bytes)) if fabric is not None and payload_bytes else 0.0
