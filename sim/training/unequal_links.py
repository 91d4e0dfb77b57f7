"""Steps on a cluster whose links are unequal: every transfer as slow as the pair of nodes it crosses.

Copies of the model have pipelines over different nodes: those that may be the slowest run side by side, and meet where
copies exchange gradients. A ring of copies is as fast as the slowest pair of neighbours in any ring of its stage, which
all wait for. A slow pair holds a network card for as long as its bytes take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hardware_models.errors import FleetcastError
from hardware_models.topology.placement import RankGroup
from sim.training.hop_prices import HFREDUCE
from sim.training.meetings import meetings_s
from sim.training.node_places import NodePlaces, slowdowns, slower
from sim.training.step_kinds import TIED

if TYPE_CHECKING:
    from sim.training.step_graph import StepGraphBuilder

MOST_PIPELINES = 2  # that run side by side: those with the slowest sends, of all that none surpasses in every hop

Factors = dict[int, float]  # task -> times as long


class UnequalLinks:
    """How much longer the tasks of a built step take than over links that are all alike."""

    def __init__(self, builder: StepGraphBuilder, places: NodePlaces) -> None:
        self.builder, self.places = builder, places
        self.deployment, self.graph = builder.deployment, builder.graph
        if self.deployment.scenario.training.gradient_reduce.name == HFREDUCE:
            raise FleetcastError(
                f"training.gradient_reduce = '{HFREDUCE}': what hosts reduce is not modelled on unequal links; take"
                " nccl, or leave out cluster.node_links and slow_links"
            )
        self.hops = sorted({(self._device(task), to) for task, to in builder.receivers.items()})
        self._slow = np.array([
            [places.slowest(places.hop(source, to, replica)) for source, to in self.hops]
            for replica in range(self.deployment.layout.dp)
        ]).reshape(self.deployment.layout.dp, len(self.hops))  # fmt: skip

    @classmethod
    def of(cls, builder: StepGraphBuilder) -> UnequalLinks | None:
        """None where all links are alike."""
        deployment = builder.deployment
        links = slowdowns(deployment.scenario.cluster, deployment.node)
        if links is None:
            return None
        return cls(builder, NodePlaces(deployment.scenario, deployment.node, deployment.layout, links))

    def pipelines(self) -> list[int]:
        """Copies of the model that may be the slowest, each the first of those like it."""
        if not self.hops:
            return [0]
        rows, first = np.unique(self._slow, axis=0, return_index=True)
        kept = [
            int(copy) for row, copy in zip(rows, first, strict=True)
            if (rows >= row).all(axis=1).sum() == 1  # itself
        ]  # fmt: skip
        kept.sort(key=lambda copy: (-self._slow[copy].sum(), copy))
        return sorted(kept[:MOST_PIPELINES])

    def factors(self, pipelines: list[int]) -> Factors:
        """Of tasks of those copies side by side, those that take longer."""
        tasks, found = len(self.graph), self._common()
        many = {task + copy * tasks: times for copy in range(len(pipelines)) for task, times in found.items()}
        for copy, replica in enumerate(pipelines):
            times_of = {
                hop: self._send(*hop, float(slow)) for hop, slow in zip(self.hops, self._slow[replica], strict=True)
            }
            for task, to in self.builder.receivers.items():
                times = times_of[self._device(task), to]
                if times > 1.0:
                    many[task + copy * tasks] = times
        return many

    def _device(self, task: int) -> int:
        return self.graph.streams[self.graph.stream[task]].device

    def _send(self, source: int, target: int, slowdown: float) -> float:
        hops = self.builder.hops
        alike_s = hops.seconds(source, target)
        return hops.seconds(source, target, slowdown) / alike_s if alike_s else 1.0

    def _common(self) -> Factors:
        """Of tasks that all copies begin together."""
        found: Factors = {}
        known: dict[tuple[object, ...], float] = {}
        for task, (part, hop) in self.builder.exchanges.priced.items():
            key = self._device(task), part.prices.stride, part.parameters, hop
            if key not in known:
                slow = self.ring_slowdown(key[0], RankGroup(part.prices.stride * hop.apart, hop.ranks))
                alike_s = part.prices.exchange_s(hop, part.parameters)
                slow_s = part.prices.exchange_s(hop, part.parameters, slow)
                known[key] = slow_s / alike_s if alike_s else 1.0
            found[task] = known[key]
        found |= dict.fromkeys((task for task, kind in enumerate(self.graph.kind) if kind == TIED), self._tied())
        return {task: times for task, times in (found | self._met()).items() if times > 1.0}

    def ring_slowdown(self, device: int, group: RankGroup) -> float:
        """Of the slowest ring of a stage."""
        ranks, first = self.places.stage_ranks, device * self.places.stage_ranks
        return self.places.group_slowdown(range(first, first + ranks), group, all_pairs=False)

    def _tied(self) -> float:
        first, last = self.builder.exchanges.tied_devices
        size = self.deployment.stages[0].tied_bytes
        fabric = self.builder.hops.fabric(first, last)
        if fabric is None or not size:
            return 1.0
        pairs = [pair for one in range(self.deployment.layout.dp) for pair in self.places.hop(first, last, one)]
        slowest = self.places.slowest((*pairs, *((b, a) for a, b in pairs)))
        return float(slower(fabric, slowest).seconds("all_reduce", size) / fabric.seconds("all_reduce", size))

    def _met(self) -> Factors:
        """Exchanges among all devices of a pipeline."""
        alike = dict(meetings_s(self.deployment))
        if not alike:
            return {}
        group = RankGroup(self.places.stage_ranks, self.deployment.layout.pp)
        slow = self.places.group_slowdown(range(self.deployment.layout.gpus), group, all_pairs=False)
        times = {kind: seconds / alike[kind] for kind, seconds in meetings_s(self.deployment, slow)}
        return {task: times[kind] for task, kind in enumerate(self.graph.kind) if kind in times}
