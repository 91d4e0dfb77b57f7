"""Sends between the stages of a pipeline: over a server's own links where both ends are in it, else over its cards.

Stages follow one another `tensor x context x data` ranks apart (Megatron-LM's order), so that of a pipeline with fewer
such ranks than a server has GPUs most sends stay inside, and some leave.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hardware_models.collectives import AnyFabric, HierarchicalFabric
from hardware_models.topology.groups import RankGroup, group_fabric
from hardware_models.topology.placement import Placement
from sim.training.deployment import TrainingDeployment
from sim.training.node_places import slower


class PipelineHops:
    """What a send costs between any two devices of one pipeline."""

    def __init__(self, deployment: TrainingDeployment) -> None:
        self.deployment = deployment
        layout = deployment.layout
        self.apart = layout.tp * layout.cp * layout.dp  # ranks from a stage to the next
        self.unit = Placement.of(deployment.node, RankGroup(self.apart, 2)).unit
        self._across = self._network() if self.apart < self.unit < self.apart * layout.pp else None
        self.seconds_s = {False: deployment.send_s, True: self._across_s()}  # of a send, by whether it leaves a server

    def seconds(self, source: int, target: int, slowdown: float = 1.0) -> float:
        """One send of activations or their gradients, made whole on every tensor-parallel rank that needs it so.

        slowdown: times as long that the slowest pair of servers takes over which it goes.
        """
        alike_s = self.seconds_s[self.leaves(source, target)]
        fabric = self.fabric(source, target)
        if slowdown == 1.0 or fabric is None:
            return alike_s
        wire_s = [slower(fabric, times).seconds("send_recv", self.deployment.send_bytes) for times in (1.0, slowdown)]
        return alike_s + float(wire_s[1] - wire_s[0])

    def to_stages_s(self) -> tuple[float, ...]:
        """Of each stage, what a send from the one before takes; 0 for the first and within a device."""
        schedule, devices = self.deployment.schedule, self.deployment.layout.pp
        owners = [schedule.device_of(stage, devices) for stage in range(schedule.stages(devices))]
        return (0.0, *(self.seconds(a, b) if a != b else 0.0 for a, b in pairwise(owners)))

    def fabric(self, source: int, target: int) -> AnyFabric | None:
        """What joins two devices of the pipeline."""
        return self._across if self.leaves(source, target) else self.deployment.pipeline_fabric

    def leaves(self, source: int, target: int) -> bool:
        """Are any two ranks of these stages that talk to each other in different servers, where neighbours mostly
        share one?
        """
        if self._across is None:
            return False
        ranks = range(self.apart)
        return any(
            (source * self.apart + rank) // self.unit != (target * self.apart + rank) // self.unit for rank in ranks
        )

    def _network(self) -> AnyFabric:
        """Between ranks at the same place in two servers; as many talk at once as a stage has ranks."""
        network = self.deployment.scenario.cluster.network
        group = RankGroup(self.unit, 2)
        fabric = group_fabric(self.deployment.node, group, network=network, concurrent=self.apart, pattern="ring")
        one = fabric.outer if isinstance(fabric, HierarchicalFabric) else fabric
        return replace(one, custom_all_reduce=False)

    def _across_s(self) -> float:
        if self._across is None:
            return self.deployment.send_s
        deployment = self.deployment
        inside = deployment.pipeline_fabric
        whole_s = 0.0 if inside is None else float(inside.seconds("send_recv", deployment.send_bytes))
        again_s = deployment.send_s - whole_s  # of making it whole again
        return float(self._across.seconds("send_recv", deployment.send_bytes)) + again_s
