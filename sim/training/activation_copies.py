"""Activations on their way to the host and back: copies beside the passes, over a server's PCIe tree.

A stage's activations leave right after its forward, come back one backward ahead of their own, and are on the GPU only
in between. A device has one copy stream; GPUs under one switch share its uplink. What is needed again within a turn
stays. Waiting for a copy is a stall that the step shows (Wan et al., PipeOffload, 2503.01328, section 4).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from itertools import pairwise

from hardware_models.topology.inside import PcieTree
from hardware_models.topology.links import LinkTable
from policies.parallelism.activation_offload import ACTIVATION_OFFLOAD
from policies.parallelism.schedules import BACKWARD_WEIGHT, FORWARD, Programs, Slot
from policies.task_graph import TaskGraph, Transfer
from sim.policy_choice import make_policy
from sim.training.deployment import TrainingDeployment

TO_HOST, FROM_HOST = "d2h", "h2d"
HOST_MEMORY = "host memory"
LEAVING = 2  # activations of a device that may be on their way to the host: the forward after them waits


@dataclass(frozen=True, slots=True)
class Path:
    """Links of the graph from a device to its host, or back."""

    links: tuple[int, ...]
    bytes_per_s: float
    latency_s: float


class ActivationCopies:
    """Adds a step's copies to its graph."""

    def __init__(self, graph: TaskGraph, deployment: TrainingDeployment) -> None:
        self.graph, self.deployment = graph, deployment
        choice = deployment.scenario.training.activation_offload
        offload = make_policy("training.activation_offload", choice, ACTIVATION_OFFLOAD, {})
        layout, schedule = deployment.layout, deployment.schedule
        self.stages = frozenset(
            stage for device in range(layout.pp) for stage in offload.stages(schedule.stages_on(device, layout.pp))
        )
        self._links: dict[tuple[int, int], int] = {}  # of the graph, by server and the link's number in it

    def add(self, programs: Programs, first: list[int], last: list[int], pools: list[int]) -> None:
        """Between the slots of all devices; first, last: tasks of each slot. pools: GPU memory of each device."""
        if not self.stages:
            return
        offset = 0
        for device, row in enumerate(programs):
            self._row(device, row, first[offset:], last[offset:], pools[device])
            offset += len(row)

    def _row(self, device: int, row: tuple[Slot, ...], first: list[int], last: list[int], pool: int) -> None:
        """Copies in the order in which they may begin, for one stream takes them in turn."""
        graph = self.graph
        stream, host = graph.add_stream(device, "copy"), graph.add_pool(device, "host")
        to_host, from_host = self._path(device, TO_HOST), self._path(device, FROM_HOST)
        leaving, returning = self._turns(row)
        gone: dict[tuple[int, int], int] = {}  # copies to the host, by micro-batch and stage
        buffers: deque[int] = deque(maxlen=LEAVING)
        for index, slot in enumerate(row):
            for target in returning.get(index, ()):
                _, micro_batch, stage = row[target]
                size = self.deployment.stages[stage].activation_bytes
                copy = self._copy(stream, FROM_HOST, row[target], from_host, [last[index], gone[micro_batch, stage]])
                graph.acquire(copy, pool, size, "activations")
                graph.release(copy, host, size, HOST_MEMORY)
                graph.wait_for(first[target], copy)
            if index in leaving:
                size = self.deployment.stages[slot.stage].activation_bytes
                copy = gone[slot.micro_batch, slot.stage] = self._copy(stream, TO_HOST, slot, to_host, [last[index]])
                if len(buffers) == LEAVING:
                    graph.wait_for(first[index], buffers[0])
                buffers.append(copy)
                graph.release(copy, pool, size, "activations")
                graph.acquire(copy, host, size, HOST_MEMORY)

    def _turns(self, row: tuple[Slot, ...]) -> tuple[frozenset[int], dict[int, list[int]]]:
        """Forwards after which activations leave; and at the end of which slot those of which backwards may return."""
        forwards = {slot[1:]: index for index, slot in enumerate(row) if slot.work == FORWARD}
        backwards = [index for index, slot in enumerate(row) if slot.work not in (FORWARD, BACKWARD_WEIGHT)]
        leaving: set[int] = set()
        returning: dict[int, list[int]] = {}
        for before, index in pairwise([backwards[0] - 1, *backwards] if backwards else []):
            forward, called = forwards[row[index][1:]], before - 1  # when the backward before it begins
            if row[index].stage in self.stages and forward < called:
                leaving.add(forward)
                returning.setdefault(called, []).append(index)
        return frozenset(leaving), returning

    def _copy(self, stream: int, kind: str, slot: Slot, path: Path, after: list[int]) -> int:
        size = self.deployment.stages[slot.stage].activation_bytes
        return self.graph.add(
            stream,
            path.latency_s + size / path.bytes_per_s,
            kind,
            after,
            name=f"{kind} {slot.micro_batch} stage {slot.stage}",
            transfer=Transfer(path.links, size, path.latency_s),
        )

    def _path(self, device: int, kind: str) -> Path:
        """Of a stage's rank, which stands for the others: what crosses a link with them has a part of it."""
        layout, node = self.deployment.layout, self.deployment.node
        table = LinkTable()
        tree = PcieTree(node, 1, table)
        way = tree.to_host if kind == TO_HOST else tree.from_host
        apart = layout.tp * layout.cp * layout.dp
        server, place = divmod(device * apart, node.gpus)
        path = way(place)
        alike = range(place, min(node.gpus, place + apart))
        crossing = Counter(link for one in alike for link in way(one))
        rates = [table[link] / crossing[link] for link in path]
        links = tuple(self._link(server, link, table.name(link), rate) for link, rate in zip(path, rates, strict=True))
        return Path(links, min(rates), table.latency_s(path))

    def _link(self, server: int, link: int, name: str, bytes_per_s: float) -> int:
        if (server, link) not in self._links:
            self._links[server, link] = self.graph.add_link(f"server {server} {name}", bytes_per_s)
        return self._links[server, link]
