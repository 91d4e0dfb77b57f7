"""Seconds of what copies of a model exchange: each collective over the links among those copies."""

from __future__ import annotations

from hardware_models.collective_times import NETWORKS
from hardware_models.collectives import AnyFabric, HierarchicalFabric
from hardware_models.device import Device
from hardware_models.host_reduce import HostReduce
from hardware_models.ops import Elementwise
from policies.parallelism.exchange import Hop, Hops
from sim.training.deployment import TrainingDeployment
from sim.training.fabrics import rank_fabric
from sim.training.node_places import slower

HFREDUCE = "hfreduce"


class HopPrices:
    """Prices hops among copies of one deployment's ranks."""

    def __init__(self, deployment: TrainingDeployment, stride: int) -> None:
        """stride: ranks from one copy to the next."""
        self.deployment = deployment
        self.stride = stride
        self._device = Device(deployment.gpu)
        self._fabrics: dict[tuple[int, int], AnyFabric | None] = {}
        self._kept_s: dict[tuple[Hop, float, float], float] = {}

    @property
    def in_server(self) -> int:
        """Copies that lie in one server."""
        return max(1, self.deployment.node.gpus // self.stride)

    def seconds(self, hops: Hops, parameters: float) -> float:
        """Of all, one after another, with the passes over what they exchange; parameters: of the part."""
        return sum(self.exchange_s(one, parameters) + self.passes_s(one, parameters) for one in hops)

    def exchange_s(self, hop: Hop, parameters: float, slowdown: float = 1.0) -> float:
        """Of the collective, between servers whose slowest pair takes so many times as long; each is priced once."""
        key = (hop, parameters, slowdown)
        if key not in self._kept_s:
            self._kept_s[key] = self._collective_s(*key)
        return self._kept_s[key]

    def _collective_s(self, hop: Hop, parameters: float, slowdown: float) -> float:
        payload = parameters * hop.bytes_per_parameter
        if hop.kind == HFREDUCE:
            return self._hosts(hop).seconds(payload)
        fabric = self.fabric(hop)
        return float(slower(fabric, slowdown).seconds(hop.kind, payload)) if fabric is not None and payload else 0.0

    def passes_s(self, hop: Hop, parameters: float) -> float:
        """Of reading and writing on the device before and after it."""
        moved = parameters * hop.passes_bytes
        if not moved:
            return 0.0
        passes = Elementwise(elements=moved / 4.0, reads=1, writes=0, dtype="fp32", streaming=True)
        return float(self._device.price(passes).seconds)

    def fabric(self, hop: Hop) -> AnyFabric | None:
        """Among a hop's copies."""
        key = (hop.ranks, hop.apart)
        if key not in self._fabrics:
            deployment = self.deployment
            stride = self.stride * hop.apart
            self._fabrics[key] = rank_fabric(deployment.scenario, deployment.node, hop.ranks, stride)
        return self._fabrics[key]

    def _hosts(self, hop: Hop) -> HostReduce:
        copies = min(hop.ranks, self.in_server)
        network = self.deployment.scenario.cluster.network
        return HostReduce(node=self.deployment.node, copies=copies, nodes=-(-hop.ranks // copies), network=network)

    def leaves_server(self, hop: Hop) -> bool:
        """Does it cross network cards?"""
        if hop.kind == HFREDUCE:
            return False  # it has its own time for cards
        fabric = self.fabric(hop)
        outer = fabric.outer if isinstance(fabric, HierarchicalFabric) else fabric
        return outer is not None and outer.link.kind in NETWORKS
