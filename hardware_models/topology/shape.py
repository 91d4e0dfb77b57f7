"""Where cards meet: the numbers of leaves, planes and pods that a cluster's description implies."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Self

from hardware_models import catalog
from hardware_models.specs import ClusterSpec, NodeSpec


@dataclass(frozen=True, slots=True)
class Shape:
    """A cluster's network, with every default filled in. A card is known by its node and its number there."""

    nodes: int
    nics: int  # a node
    card_bytes_per_s: float
    port_bytes_per_s: float  # of a switch
    card_s: float  # one way, card to card without a switch
    switch_s: float  # one switch more
    nodes_per_leaf: int
    by_card: bool  # card i of every node under one leaf switch, one of a set
    planes: int
    nodes_per_pod: int
    oversubscription: float
    pod_oversubscription: float

    @classmethod
    def of(cls, node: NodeSpec, cluster: ClusterSpec) -> Self:
        """Of a cluster of a node, which need not be the one that it names."""
        card, port = catalog.nic(node.nic), catalog.link(cluster.network)
        planes, nodes = cluster.planes or 1, cluster.nodes
        leaf = cluster.nodes_per_leaf
        return cls(
            nodes=nodes,
            nics=node.nics,
            card_bytes_per_s=min(card.bandwidth_bytes_per_s, port.bandwidth_bytes_per_s),
            port_bytes_per_s=port.bandwidth_bytes_per_s,
            card_s=min(card.latency_s, port.latency_s),
            switch_s=max(0.0, port.latency_s - card.latency_s),
            nodes_per_leaf=leaf,
            by_card=cluster.rail_optimised or planes > 1,
            planes=planes,
            nodes_per_pod=cluster.nodes_per_pod or ceil(nodes / leaf) * leaf,
            oversubscription=cluster.oversubscription,
            pod_oversubscription=cluster.pod_oversubscription or 1.0,
        )

    @property
    def leaf_ports(self) -> int:
        """Cards under one leaf switch."""
        return self.nodes_per_leaf * (1 if self.by_card else self.nics)

    @property
    def leaf_sets_per_pod(self) -> int:
        """Leaf switches of one pod, those that divide a node's cards among them counted once."""
        return self.nodes_per_pod // self.nodes_per_leaf

    @property
    def leaves_per_pod(self) -> int:
        """Leaf switches of one pod."""
        return self.leaf_sets_per_pod * (self.nics if self.by_card else 1)

    @property
    def pods(self) -> int:
        """Pods, or groups of a dragonfly; the last may be part empty."""
        return ceil(self.nodes / self.nodes_per_pod)

    def leaf(self, node: int, nic: int) -> int:
        """Number of a card's leaf switch; those of a pod follow each other."""
        group = node // self.nodes_per_leaf
        return group * self.nics + nic if self.by_card else group

    def leaf_port(self, node: int, nic: int) -> int:
        """Number of a card under its leaf switch."""
        place = node % self.nodes_per_leaf
        return place if self.by_card else place * self.nics + nic

    def pod_port(self, node: int, nic: int) -> int:
        """Number of a card in its pod."""
        return self.leaf(node, nic) % self.leaves_per_pod * self.leaf_ports + self.leaf_port(node, nic)
