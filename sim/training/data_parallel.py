"""Exchanges between copies of the model: gradients reduced, weights gathered, whole or layer by layer beside the work.

Bucketed, overlapped reduction: PyTorch DDP (arXiv 2006.15704); sharded gathering with prefetch: ZeRO (arXiv
1910.02054) and FSDP (arXiv 2304.11277).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hardware_models.dtypes import bytes_per_element
from policies.parallelism import Sharding
from policies.parallelism.exchange import Hop, Hops, copied
from policies.parallelism.gradient_reduce import GRADIENT_REDUCE
from policies.parallelism.schedules import BACKWARD_INPUT, FORWARD, Slot
from policies.task_graph import NO_STREAM, TaskGraph
from sim.policy_choice import make_policy
from sim.training.deployment import TrainingDeployment
from sim.training.gathering import GatheredPasses
from sim.training.hop_prices import HopPrices
from sim.training.optimizer_step import OptimizerStep
from sim.training.pipeline_hops import PipelineHops
from sim.training.step_kinds import GATHER, LAUNCH, REDUCE

NO_TASK = -1  # nothing to wait for


class Part(NamedTuple):
    """Parameters that have as many copies each."""

    sharding: Sharding
    prices: HopPrices
    ranks: int
    parameters: float


class Exchanges:
    """Writes the exchanges of each stage's rank into a step's graph, and splits passes where they overlap."""

    def __init__(self, deployment: TrainingDeployment) -> None:
        self.deployment = deployment
        layout = deployment.layout
        self.ranks = layout.dp * layout.cp
        self._alone = self.ranks == 1 and layout.expert_copies == 1
        self.zero = 0 if self._alone else deployment.sharding.stage
        self.weight_width = 1.0 if deployment.fp8_weights else bytes_per_element(deployment.cut.dtype)
        self.gradient_width = bytes_per_element(deployment.gradient_reduce_dtype)
        self.hops = HopPrices(deployment, layout.tp)
        self.expert_ranks = layout.expert_copies
        self._expert_hops = HopPrices(deployment, layout.etp * layout.ep)
        self.agreement = make_policy(
            "training.gradient_reduce", deployment.scenario.training.gradient_reduce, GRADIENT_REDUCE, {}
        )
        self.agreement.check(deployment.sharding)
        self._optimizer = OptimizerStep(deployment)
        self.collectives: dict[int, str] = {}  # task -> kind of what copies exchange in it
        self.priced: dict[int, tuple[Part, Hop]] = {}  # what each of them is priced by
        self.slots: dict[int, Slot] = {}  # task -> the pass that it is, or is a part of
        self._reduced: dict[int, list[int]] = {}  # device -> its reductions
        self._gathered: dict[int, list[int]] = {}  # stage -> gathers that parts of its first forward wait for
        self._profile = deployment.framework.gathering
        recomputes = deployment.scenario.training.recompute.name == "full"
        self._passes = GatheredPasses(self._profile, self.ranks, deployment.sharding.prefetch, recomputes)

    def device_parameters(self, device: int) -> float:
        """Of all stages that a device holds."""
        schedule, pp = self.deployment.schedule, self.deployment.layout.pp
        return sum(self.deployment.stages[stage].parameters for stage in schedule.stages_on(device, pp))

    def device_experts(self, device: int) -> float:
        """Of them, those of experts."""
        schedule, pp = self.deployment.schedule, self.deployment.layout.pp
        return sum(self.deployment.stages[stage].expert_parameters for stage in schedule.stages_on(device, pp))

    def gather_s(self, parameters: float, experts: float = 0.0) -> float:
        """Seconds to make weights whole of which each rank has a part; experts: how many of the parameters are."""
        width = self.weight_width
        return sum(
            one.prices.seconds(one.sharding.gather(one.ranks, width), one.parameters)
            for one in self.parts(parameters, experts)
        )

    def reduce_s(self, parameters: float, experts: float = 0.0, *, share: int = 1) -> float:
        """Seconds to add up gradients: whole on every rank, or each rank its part; and to average weights, or one of
        `share` steps' part of it; experts: as for `gather_s`.
        """
        parts = self.parts(parameters, experts)
        reduced = sum(one.prices.seconds(self._reduce_hops(one), one.parameters) for one in parts)
        return reduced + sum(one.prices.seconds(self._average_hops(one), one.parameters) for one in parts) / share

    def state_parameters(self, device: int) -> float:
        """Whose optimizer state one rank holds, and updates; stages that two devices hold are divided over both."""
        deployment = self.deployment
        copies = deployment.schedule.copies if deployment.sharding.stage else 1
        parts = self.parts(self.device_parameters(device), self.device_experts(device))
        return sum(one.sharding.optimizer_parameters(one.parameters, one.ranks) for one in parts) / copies

    def optimizer_s(self, device: int) -> float:
        """Seconds in which a rank updates what it holds the optimizer's state of."""
        return self._optimizer.seconds(self.optimizer_bytes(device))

    def optimizer_bytes(self, device: int) -> float:
        """What that reads and writes."""
        return self._optimizer.moved_bytes(self.state_parameters(device), self.device_parameters(device))

    @property
    def tied_s(self) -> float:
        """Seconds in which the first and last stage add up the gradients of a table they share."""
        size = self.deployment.stages[0].tied_bytes
        first, last = self.tied_devices
        fabric = PipelineHops(self.deployment).fabric(first, last)
        return 0.0 if fabric is None or first == last or not size else float(fabric.seconds("all_reduce", size))

    @property
    def tied_devices(self) -> tuple[int, int]:
        """Who has the first stage, and who the last."""
        schedule, pp = self.deployment.schedule, self.deployment.layout.pp
        return schedule.device_of(0, pp), schedule.device_of(schedule.stages(pp) - 1, pp)

    @property
    def norm_s(self) -> float:
        """Seconds in which all ranks agree on the gradients' norm."""
        copies = self.deployment.data_fabric if self.agreement.every_steps == 1 else None
        fabrics = [one for one in (copies, self.deployment.pipeline_fabric) if one is not None]
        return sum(float(one.seconds("all_reduce", 8.0)) for one in fabrics)

    def unsure_s(self, device: int) -> float:
        """Seconds that one standard deviation of the links between copies moves a step's exchanges."""
        fabric = self.deployment.data_fabric
        if fabric is None:
            return 0.0
        payload = self.device_parameters(device) * self.gradient_width
        exchanged_s = self.reduce_s(self.device_parameters(device), share=self.agreement.every_steps)
        return float(fabric.sigma("all_gather", payload)) * exchanged_s

    def begin(self, graph: TaskGraph, data: int, compute: int, device: int, host: int) -> None:
        """Weights that an earlier step's optimizer left in parts are gathered before, or beside, the first forwards."""
        if self.zero not in (1, 2):
            return
        deployment = self.deployment
        if not deployment.overlap_param_gather:
            whole, experts = self.device_parameters(device), self.device_experts(device)
            gather = self._gather(graph, data, whole, experts, [host])
            graph.add(compute, 0.0, "weights are whole", [gather])
            return
        for stage in deployment.schedule.stages_on(device, deployment.layout.pp):
            parts = self.buckets(stage, self.weight_width)
            work = deployment.stages[stage]
            share, experts = work.parameters / parts, work.expert_parameters / parts
            self._gathered[stage] = [self._gather(graph, data, share, experts, [host]) for _ in range(parts)]

    def compute(
        self, graph: TaskGraph, compute: int, data: int, slot: Slot, seconds: float, *, final: bool
    ) -> list[int]:
        """A pass as one task, or as one a part of its layers between which exchanges go."""
        name = f"{slot.work} {slot.micro_batch} stage {slot.stage}"
        if self.zero == 3:
            return self._gathering(graph, compute, data, slot, seconds, name, final=final)
        waits = self._gathered.pop(slot.stage, []) if slot.work == FORWARD else []
        reduces = self._reduces(slot, final)
        overlapped = reduces and self.deployment.overlap_grad_reduce
        parts = len(waits) or (self.buckets(slot.stage, self.gradient_width) if overlapped else 1)
        tasks = [
            graph.add(compute, seconds / parts, slot.work, waits[part : part + 1], name=name) for part in range(parts)
        ]
        if reduces:
            self._reduce_parts(graph, compute, data, slot.stage, tasks, overlapped=bool(overlapped))
        return tasks

    def reduce(self, graph: TaskGraph, data: int, device: int, last: int) -> int:
        """The task after which a device's gradients are whole."""
        if self._alone:
            return last
        if own := self._reduced.get(device):
            last = graph.add(NO_STREAM, 0.0, "gradients are whole", [last, *own])
        else:
            last = self._reduce(graph, data, self.device_parameters(device), self.device_experts(device), last)
        return self._average(graph, data, device, last)

    def _average(self, graph: TaskGraph, data: int, device: int, last: int) -> int:
        """The task after which weights that several steps average once are, by a step's share of it."""
        if self.agreement.beside_next_steps:  # it began with the step, and the next one does not wait for it
            data = graph.add_stream(device, "averages")
        waits = [] if self.agreement.beside_next_steps else [last]
        for one in self.parts(self.device_parameters(device), self.device_experts(device)):
            hops, steps = self._average_hops(one), self.agreement.every_steps
            waits = self._exchange(graph, data, REDUCE, one, hops, waits, steps=steps)
        return last if self.agreement.beside_next_steps else waits[0]

    def _reduces(self, slot: Slot, final: bool) -> bool:
        """Does this pass leave gradients that go at once?"""
        if self._alone or slot.work in (FORWARD, BACKWARD_INPUT) or self.agreement.after_backward:
            return False
        return self.zero == 2 or (final and self.deployment.overlap_grad_reduce)

    def _reduce_parts(
        self, graph: TaskGraph, compute: int, data: int, stage: int, tasks: list[int], *, overlapped: bool
    ) -> None:
        work = self.deployment.stages[stage]
        share, experts = work.parameters / len(tasks), work.expert_parameters / len(tasks)
        device = graph.streams[compute].device
        for task in tasks:
            reduce = self._reduce(graph, data, share, experts, task)
            self._reduced.setdefault(device, []).append(reduce)
            if not overlapped:
                graph.add(compute, 0.0, "gradients are reduced", [reduce])

    def _gathering(
        self, graph: TaskGraph, compute: int, data: int, slot: Slot, seconds: float, name: str, *, final: bool
    ) -> list[int]:
        """Part by part: its weights are gathered, while some before it compute."""
        layers, work = self.deployment.stage_layers[slot.stage], self.deployment.stages[slot.stage]
        count = layers * self._passes.pieces
        whole, experts = work.parameters / count, work.expert_parameters / count
        tasks, reduced = self._passes.write(
            graph, compute, slot, name, self._passes.parts(slot, seconds, count, work.parameters / layers),
            lambda before, fresh: self._gather_part(graph, data, slot, whole, experts, before, fresh=fresh),
            lambda task: self._reduce_part(graph, data, whole, experts, task, last=final),
        )  # fmt: skip
        self._reduced.setdefault(graph.streams[compute].device, []).extend(reduced)
        return tasks

    def _reduce_part(
        self, graph: TaskGraph, data: int, parameters: float, experts: float, task: int, *, last: bool
    ) -> int:
        """A part's gradients after its pass, those of its biases and norms on their own."""
        more = self._profile.small_reduces // self._profile.collectives_per_layer
        for size, rest in ((parameters, experts), *[(1.0, 0.0)] * more):
            if host_s := self._passes.host_s:
                task = graph.add(data, host_s, LAUNCH, [task])
            task = self._reduce(graph, data, size, rest, task, last=last)
        return task

    def _gather_part(
        self, graph: TaskGraph, data: int, slot: Slot, parameters: float, experts: float, before: list[int], *,
        fresh: bool,
    ) -> list[int]:  # fmt: skip
        """What makes a part's weights whole before a pass; fresh: the first since they were updated."""
        width, after = self.weight_width, before
        for one in self.parts(parameters, experts):
            hops = one.sharding.refresh(one.ranks, width) if fresh else ()
            hops += one.sharding.gather(one.ranks, width, backward=slot.work != FORWARD)
            after = self._exchange(graph, data, GATHER, one, copied(hops, self._profile.gather_copy_bytes), after)
        return [] if after is before else after

    def _gather(self, graph: TaskGraph, data: int, parameters: float, experts: float, after: list[int]) -> int:
        """The task after which they are whole: the last of several."""
        for one in self.parts(parameters, experts):
            after = self._exchange(graph, data, GATHER, one, one.sharding.gather(one.ranks, self.weight_width), after)
        return after[0]

    def _reduce(
        self, graph: TaskGraph, data: int, parameters: float, experts: float, after: int, *, last: bool = True
    ) -> int:
        """last: of the step, after which what is still apart is added up."""
        waits = [after] if after != NO_TASK else []
        for one in self.parts(parameters, experts):
            waits = self._exchange(graph, data, REDUCE, one, self._reduce_hops(one, last=last), waits)
        return waits[0] if waits else NO_TASK

    def _reduce_hops(self, part: Part, *, last: bool = True) -> Hops:
        sharding, width = part.sharding, self.gradient_width
        hops = self.agreement.reduce(sharding, part.ranks, part.prices.in_server, width)
        if sharding.stage == 3:
            hops = copied(hops, self._profile.reduce_copy_bytes)
        return hops + self.agreement.finish(sharding, part.ranks, width) if last else hops

    def _average_hops(self, part: Part) -> Hops:
        return self.agreement.average(part.sharding, part.ranks, self.gradient_width)

    def _exchange(
        self, graph: TaskGraph, data: int, kind: str, part: Part, hops: Hops, after: list[int], *, steps: int = 1
    ) -> list[int]:
        """One task a collective, one after another; returns the last, in a list; steps: that share one exchange."""
        for one in hops:
            if passes_s := part.prices.passes_s(one, part.parameters):
                after = [graph.add(data, passes_s / steps, kind, after, name=f"{kind}, packed")]
            task = graph.add(data, part.prices.exchange_s(one, part.parameters) / steps, kind, after)
            if part.prices.leaves_server(one):
                self.collectives[task] = one.kind
                self.priced[task] = part, one
            after = [task]
        return after

    def parts(self, parameters: float, experts: float) -> list[Part]:
        """Of parameters, `experts` of them of experts: those that have as many copies each."""
        deployment = self.deployment
        found = [Part(deployment.sharding, self.hops, self.ranks, parameters - experts)]
        if experts:
            found.append(Part(deployment.expert_sharding, self._expert_hops, self.expert_ranks, experts))
        return found

    def buckets(self, stage: int, width: float) -> int:
        """Into how many parts a stage's exchange is cut: buckets of the framework's size, at most one a layer."""
        size = self.deployment.stages[stage].parameters * width
        wanted = math.ceil(size / self.deployment.framework.bucket_bytes)
        return max(1, min(self.deployment.stage_layers[stage], wanted))
