"""A cluster as devices and directed links, and the links that lie between any two devices."""

from __future__ import annotations

from typing import NamedTuple

from hardware_models import catalog
from hardware_models.errors import FleetcastError, ImpossibleError
from hardware_models.specs import ClusterSpec, NodeSpec
from hardware_models.topology.dragonfly import Dragonfly
from hardware_models.topology.fat_tree import FatTree
from hardware_models.topology.inside import Path, PcieTree, ScaleUp
from hardware_models.topology.links import LinkTable
from hardware_models.topology.shape import Shape
from hardware_models.topology.spread import Flow, Spread


class _Route(NamedTuple):
    """A way through two cards, each as node and number there, without what lies between them."""

    head: Path
    source: tuple[int, int]
    target: tuple[int, int]
    tail: Path


class Topology:
    """Devices are numbered node by node. Paths are worked out when asked for: size costs nothing.

    `links`, as a sequence, are their capacities in bytes/s; links of a path are numbers of it.
    """

    def __init__(self, node: NodeSpec, cluster: ClusterSpec) -> None:
        self.node, self.cluster, self.links = node, cluster, LinkTable()
        self.devices = node.gpus * cluster.nodes
        self._scale_up = ScaleUp(node, self.devices, self.links)
        self._pcie = PcieTree(node, cluster.nodes, self.links)
        self._shape = shape = Shape.of(node, cluster)
        cards = cluster.nodes * node.nics
        self._card_up = self.links.add("card up", cards, shape.card_bytes_per_s, shape.card_s)
        self._card_down = self.links.add("card down", cards, shape.card_bytes_per_s, shape.switch_s)
        spread = Spread(cluster.routing or "ecmp")
        self._network: FatTree | Dragonfly
        if cluster.fabric == "dragonfly":
            self._network = Dragonfly(shape, cluster, spread, self.links)
        else:
            self._network = FatTree(shape, spread, self.links)

    @classmethod
    def of(cls, name: str) -> Topology:
        """A cluster of the catalog."""
        cluster = catalog.cluster(name)
        return cls(catalog.node(cluster.node), cluster)

    def path(self, source: int, target: int, flow_hash: int = 0) -> Path:
        """Links between two devices: by the scale-up link where one joins them, in a server over PCIe, else by the
        cards. In a network of several planes a flow changes planes inside the source's server.

        flow_hash: tells flows between the same devices apart, as ports and queue pairs do. Raises FleetcastError for
        devices that are not there, ImpossibleError where a server has no card.
        """
        self._check(source, target)
        if self.joined_inside(source, target):
            return self._inside(source, target)
        own = self.cards(source)
        return self._across(source, target, flow_hash % len(own), flow_hash)

    def load(self, source: int, target: int, flow_hash: int = 0) -> dict[int, float]:
        """Link -> part of a transfer's bytes over it, with all the flows that a library opens between two devices: on
        each card that the source sends through, as many as the cluster's `flows_per_connection`.
        """
        self._check(source, target)
        if self.joined_inside(source, target):
            return dict.fromkeys(self._inside(source, target), 1.0)
        flows, cards = self.cluster.flows_per_connection or 1, len(self.cards(source))
        found: dict[int, float] = {}
        for place in range(cards):
            route = self._route(source, target, place)
            for link in route.head + route.tail:
                found[link] = found.get(link, 0.0) + 1.0 / cards
            for flow in range(flows):
                for link in self._middle(route, flow_hash * flows + flow):
                    found[link] = found.get(link, 0.0) + 1.0 / (cards * flows)
        return found

    def to_host(self, device: int) -> Path:
        """Links from a device to its host's memory."""
        self._check(device)
        return self._pcie.to_host(device)

    def from_host(self, device: int) -> Path:
        """Links from its host's memory to a device."""
        self._check(device)
        return self._pcie.from_host(device)

    def cards(self, device: int) -> tuple[int, ...]:
        """Numbers, in its server, of the cards that a device sends through; raises ImpossibleError where none is."""
        found = self._pcie.cards[device % self.node.gpus]
        if not found:
            raise ImpossibleError(
                f"{self.node.name} has no network card, but devices of different servers are to talk; give it cards"
            )
        return found

    def joined_inside(self, source: int, target: int) -> bool:
        """Do two devices reach each other without a card?"""
        return self._scale_up.joins(source, target) or source // self.node.gpus == target // self.node.gpus

    def on_one_switch(self, source: int, target: int) -> bool:
        """Does one scale-up group hold both, rather than a host's bus or a network?"""
        return self._scale_up.joins(source, target)

    def latency_s(self, path: Path) -> float:
        """Of a path's first byte."""
        return self.links.latency_s(path)

    def _inside(self, source: int, target: int) -> Path:
        if self._scale_up.joins(source, target):
            return self._scale_up.path(source, target)
        return self._pcie.between(source, target)

    def _across(self, source: int, target: int, place: int, flow_hash: int) -> Path:
        """Through the card at a place among the source's own."""
        route = self._route(source, target, place)
        return (*route.head, *self._middle(route, flow_hash), *route.tail)

    def _route(self, source: int, target: int, place: int) -> _Route:
        """What all flows through a card of the source share: the way to it, and from the target's card."""
        nodes = source // self.node.gpus, target // self.node.gpus
        through = source
        forward: Path = ()
        nic, into = self.cards(source)[place], self.cards(target)[place % len(self.cards(target))]
        planes = self._shape.planes
        if nic % planes != into % planes:
            through, nic = (
                nodes[0] * self.node.gpus + target % self.node.gpus,
                into,
            )  # the target's place in this server
            forward = self._inside(source, through)
        start, end = nodes[0] * self.node.nics + nic, nodes[1] * self.node.nics + into
        head = (*forward, *self._pcie.to_card(through, nic), self._card_up + start)
        return _Route(
            head, (nodes[0], nic), (nodes[1], into), (self._card_down + end, *self._pcie.from_card(target, into))
        )

    def _middle(self, route: _Route, flow_hash: int) -> Path:
        """Between the cards of a route."""
        nics = self.node.nics
        start, end = (node * nics + nic for node, nic in (route.source, route.target))
        return self._network.path(route.source, route.target, Flow(start, end, flow_hash))

    def _check(self, *devices: int) -> None:
        for device in devices:
            if not 0 <= device < self.devices:
                raise FleetcastError(f"device {device}: {self.cluster.name} has devices 0 to {self.devices - 1}")
