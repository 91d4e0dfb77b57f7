"""A training step as a graph of tasks: host, passes of micro-batches, sends, exchanges between copies, optimizer.

One rank of each pipeline stage stands for all its tensor-parallel neighbours and copies, which do the same at the same
time. A step begins with the gathering of weights that the one before left in parts, and ends when they are updated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from policies.parallelism.schedules import (
    BACKWARD_WEIGHT,
    FORWARD,
    Programs,
    Slot,
    SlotTimes,
    dependencies,
    owners,
)
from policies.parallelism.schedules.dependencies import join
from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph.times import Times
from sim.training.activation_copies import ActivationCopies
from sim.training.data_parallel import Exchanges
from sim.training.deployment import TrainingDeployment
from sim.training.meetings import meet, meetings_s
from sim.training.memory import held_bytes
from sim.training.paired import shortened
from sim.training.pipeline_hops import PipelineHops
from sim.training.shared_links import share_network_cards
from sim.training.step_kinds import GATHER, GRAD_NORM, HOST, OPTIMIZER, SEND_BACKWARD, SEND_FORWARD, TIED

if TYPE_CHECKING:
    from sim.training.stage_clocks import PassClocks


@dataclass(slots=True)
class _Device:
    """Streams of one stage's rank, and what its next compute task must wait for."""

    compute: int
    send_forward: int
    send_backward: int
    data: int
    pool: int


class StepGraphBuilder:
    """Writes the graph of one step."""

    def __init__(self, deployment: TrainingDeployment, clocks: PassClocks | None = None) -> None:
        """clocks: of each pass; absent, all run as fast as GPUs let them."""
        self.deployment, self.clocks = deployment, clocks
        layout, schedule = deployment.layout, deployment.schedule
        self.exchanges = Exchanges(deployment)
        self.hops = PipelineHops(deployment)
        self.times = slot_times(deployment)
        self.programs: Programs = schedule.programs(layout.pp, layout.micro_batches, self.times)
        self.joined = schedule.joined(self.programs)
        self.graph = TaskGraph()
        self.devices = [self._device(device) for device in range(layout.pp)]
        self.held = [held_bytes(deployment, self.exchanges, device) for device in range(layout.pp)]
        self.copies = ActivationCopies(self.graph, deployment)
        self.first: list[int] = []  # task of each slot, or the first and last of its parts
        self.last: list[int] = []
        self.receivers: dict[int, int] = {}  # of each send

    def build(self) -> TaskGraph:
        """The whole step."""
        host = [self._begin(device) for device in range(len(self.devices))]
        for device, one in enumerate(self.devices):
            self.exchanges.begin(self.graph, one.data, one.compute, device, host[device])
        for device, program in enumerate(self.programs):
            self._passes(device, program)
        self._connect()
        meet(self.graph, self.deployment.schedule, self.programs, dict(self.times.meetings_s), self.first, self.last)
        self.copies.add(self.programs, self.first, self.last, [one.pool for one in self.devices])
        self._finish()
        share_network_cards(self.graph, self.deployment, self.receivers, self.exchanges.collectives)
        return self.graph

    def _device(self, device: int) -> _Device:
        graph = self.graph
        return _Device(
            graph.add_stream(device, "compute"),
            graph.add_stream(device, SEND_FORWARD),
            graph.add_stream(device, SEND_BACKWARD),
            graph.add_stream(device, "data"),
            graph.add_pool(device, "hbm"),
        )

    def _begin(self, device: int) -> int:
        """What the host does before a step, and memory that is held all along."""
        one = self.devices[device]
        task = self.graph.add(one.compute, self.deployment.framework.host_s_per_step, HOST)
        for owner, size in self.held[device].items():
            self.graph.acquire(task, one.pool, size, owner)
        return task

    def _passes(self, device: int, program: tuple[Slot, ...]) -> None:
        """A device's slots in its order, each as one task or as one a part of its layers."""
        one, columns = self.devices[device], self.times.columns_s()
        ends = {}
        for index, slot in enumerate(program):
            if slot.work != FORWARD:
                ends[slot.stage] = index
        final = set(ends.values())  # the last backward of each stage: its gradients are whole
        pairs = shortened(self.deployment, program, self.joined)
        for index, slot in enumerate(program):
            seconds = columns[slot.work][slot.stage] * pairs.get(index, 1.0)
            if self.clocks is not None:
                seconds = self.clocks.spent(slot).seconds
            tasks = self.exchanges.compute(self.graph, one.compute, one.data, slot, seconds, final=index in final)
            self.exchanges.slots |= dict.fromkeys(tasks, slot)
            if self.clocks is not None:
                for task in tasks:
                    self.graph.name[task] += f", {self.clocks.mhz[slot]:,.0f} MHz"
            self.first.append(tasks[0])
            self.last.append(tasks[-1])
            self._hold(one.pool, slot, tasks)

    def _hold(self, pool: int, slot: Slot, tasks: list[int]) -> None:
        graph, stage = self.graph, self.deployment.stages[slot.stage]
        if slot.work == FORWARD:
            graph.acquire(tasks[0], pool, stage.activation_bytes, "activations")
            return
        kept = stage.weight_input_bytes
        freed = kept if slot.work == BACKWARD_WEIGHT else stage.activation_bytes
        freed -= kept if slot.work == "backward_input" else 0.0
        graph.release(tasks[-1], pool, freed, "activations")
        if slot.work != BACKWARD_WEIGHT:
            graph.acquire(tasks[0], pool, stage.working_bytes, "working")
            graph.release(tasks[-1], pool, stage.working_bytes, "working")

    def _connect(self) -> None:
        """Slots wait for one another; between devices, for a send. Sends leave in the order in which passes end."""
        slots = list(chain.from_iterable(self.programs))
        owner = owners(self.programs)
        waits = dependencies(self.programs, self.deployment.schedule.stages(len(self.devices)))
        join(waits, [index for index, slot in enumerate(slots) if slot in self.joined])
        pairs = sorted((source, target) for target, sources in enumerate(waits) for source in sources)
        sends: dict[int, int] = {}
        for source, target in pairs:
            awaited = self.last[source]
            if owner[source] != owner[target] and self.deployment.send_s > 0:
                send_s = self.hops.seconds(owner[source], owner[target])
                awaited = sends[source] = self._send(owner[source], slots[source], awaited, send_s)
                self.receivers[awaited] = owner[target]
            self.graph.wait_for(self.first[target], awaited)
        if not self.deployment.overlap_p2p:
            for source, send in sends.items():  # the sender stands still until its bytes have gone
                if source + 1 < len(slots) and owner[source + 1] == owner[source]:
                    self.graph.wait_for(self.first[source + 1], send)

    def _send(self, device: int, slot: Slot, after: int, send_s: float) -> int:
        one = self.devices[device]
        forward = slot.work == FORWARD
        stream, kind = (one.send_forward, SEND_FORWARD) if forward else (one.send_backward, SEND_BACKWARD)
        return self.graph.add(stream, send_s, kind, [after], name=f"{kind} {slot.micro_batch} of stage {slot.stage}")

    def _finish(self) -> None:
        """Gradients become whole, everybody agrees on their norm, weights are updated."""
        graph, one = self.graph, self.devices
        starts = [0]
        for program in self.programs:
            starts.append(starts[-1] + len(program))
        reduced = [
            self.exchanges.reduce(graph, one[device].data, device, self.last[starts[device + 1] - 1])
            for device in range(len(one))
        ]
        ready = [[task] for task in reduced]
        if tied := self.exchanges.tied_s:
            first, last = self.exchanges.tied_devices
            whole = graph.add(one[first].data, tied, TIED, [reduced[first], reduced[last]])
            ready[first] = ready[last] = [whole]
        if not self.deployment.schedule.post_validates:
            agreed = graph.add(NO_STREAM, self.exchanges.norm_s, GRAD_NORM, chain.from_iterable(ready))
            ready = [[agreed]] * len(one)
        for device, streams in enumerate(one):
            task = graph.add(streams.compute, self.exchanges.optimizer_s(device), OPTIMIZER, ready[device])
            for owner, size in self.held[device].items():
                graph.release(task, streams.pool, size, owner)


def slot_times(deployment: TrainingDeployment) -> SlotTimes:
    """Seconds and bytes of each stage's passes, as schedules that plan with them want."""
    stages = deployment.stages
    return SlotTimes(
        forward_s=tuple(one.forward.seconds for one in stages),
        backward_input_s=tuple(one.backward_input.seconds for one in stages),
        backward_weight_s=tuple(one.backward_weight.seconds for one in stages),
        activation_bytes=tuple(one.activation_bytes for one in stages),
        weight_input_bytes=tuple(one.weight_input_bytes for one in stages),
        send_s=deployment.send_s,
        sends_s=PipelineHops(deployment).to_stages_s(),
        meetings_s=meetings_s(deployment),
    )


def step_seconds(graph: TaskGraph, times: Times, *, together: bool) -> float:
    """Seconds from one step to the next: the makespan where all devices end `together`; else what the busiest of them
    takes from its first pass to its last update, and to gather weights before the pass, since the next step begins on
    each when this one has ended there.
    """
    if together:
        return times.makespan_s
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    gathers: list[tuple[int, int]] = []  # task and device
    host_s = 0.0
    for task, (stream, kind) in enumerate(zip(graph.stream, graph.kind, strict=True)):
        if stream == NO_STREAM:
            continue
        device = graph.streams[stream].device
        if kind == HOST:
            host_s = graph.duration_s[task]
        elif kind == FORWARD:
            first[device] = min(first.get(device, times.start_s[task]), times.start_s[task])
        elif kind == OPTIMIZER:
            last[device] = times.end_s[task]
        elif kind == GATHER:
            gathers.append((task, device))
    spans = {device: last[device] - first[device] for device in last}
    for task, device in gathers:
        if times.end_s[task] <= first[device]:
            spans[device] += graph.duration_s[task]
    return host_s + max(spans.values())
