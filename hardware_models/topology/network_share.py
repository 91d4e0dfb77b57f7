"""Bytes/s that each rank of a group has of its servers' cards and of the switches beyond, beside all groups like it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from hardware_models.specs import ClusterSpec, NodeSpec
from hardware_models.topology.placement import Placement, RankGroup
from hardware_models.topology.shape import Shape
from hardware_models.topology.sharing import contended_groups
from hardware_models.topology.topology import Topology

Pattern: TypeAlias = Literal["ring", "all_to_all"]


def network_bytes_per_s(
    node: NodeSpec,
    group: RankGroup,
    network: str,
    cluster: ClusterSpec | None,
    concurrent: int | None,
    pattern: Pattern,
) -> float:
    """Per direction and rank, of the slowest group; the group must lie in several servers.

    cluster: whose switches groups share; None: a network that is no bottleneck. concurrent: groups that run at once in
    a server; None: all. Rings are judged by their flows' paths, all-to-alls by how much of them each level carries.
    """
    place = Placement.of(node, group)
    cards = _card_share(node, group, network, concurrent)
    if cluster is None or place.units * place.step * place.unit // node.gpus <= 1:
        return cards
    if pattern == "all_to_all":
        return _tapered(node, place, cluster, cards)
    if _never_blocks(cluster):
        return cards
    return min(cards, _ring_share(node, group, cluster.model_copy(update={"network": network}), concurrent))


def _card_share(node: NodeSpec, group: RankGroup, network: str, concurrent: int | None) -> float:
    """With nothing but the servers' own links and cards: two of them under one leaf."""
    place = Placement.of(node, group)
    servers = 2 * place.unit // node.gpus
    pair = ClusterSpec(
        name="two servers", node=node.name, nodes=servers, network=network, nodes_per_leaf=servers, oversubscription=1.0
    )
    members = [
        [unit * place.unit + offset + number * group.stride for unit in (0, 1) for number in range(place.per_unit)]
        for offset in place.offsets(group, concurrent)
    ]
    return min(contended_groups(Topology(node, pair), members))


def _ring_share(node: NodeSpec, group: RankGroup, cluster: ClusterSpec, concurrent: int | None) -> float:
    """Of all rings of the cluster, the slowest's."""
    topology, place = Topology(node, cluster), Placement.of(node, group)
    active, block = set(place.offsets(group, concurrent)), group.stride * group.size
    groups = [
        range(start + offset, start + block, group.stride)
        for start in range(0, topology.devices - block + 1, block)
        for offset in range(group.stride)
        if (start + offset) % min(group.stride, place.unit) in active
    ]
    return min(contended_groups(topology, groups)) if groups else float("inf")


def _never_blocks(cluster: ClusterSpec) -> bool:
    """Has every leaf and spine as much above as below, without two flows of a ring on one link?"""
    full = cluster.oversubscription == 1.0 and (cluster.pod_oversubscription or 1.0) == 1.0
    spread = cluster.routing in ("adaptive", "static")
    return cluster.nodes <= cluster.nodes_per_leaf or (full and spread and cluster.fabric != "dragonfly")


def _tapered(node: NodeSpec, place: Placement, cluster: ClusterSpec, cards: float) -> float:
    """Cards' share, less where what leaves a leaf or a pod has less than that above it; same-index rails assumed."""
    shape = Shape.of(node, cluster)
    step = place.step * max(1, place.unit // node.gpus)  # nodes
    share = cards
    leaf_above, pod_above = _widths_above(shape, place, cluster, step)
    for nodes, above in ((shape.nodes_per_leaf, leaf_above), (shape.nodes_per_pod, pod_above)):
        inside = max(1, min(place.units, nodes // step))
        leaving = (place.units - inside) / max(1, place.units - 1)
        if leaving > 0.0:
            share = min(share, cards * above / leaving)
    return share


def _widths_above(shape: Shape, place: Placement, cluster: ClusterSpec, step: int) -> tuple[float, float]:
    """Bandwidth above a leaf and above a pod, over that of the cards below."""
    if cluster.fabric != "dragonfly":
        leaf = 1.0 / shape.oversubscription
        return leaf, leaf / shape.pod_oversubscription
    port = shape.port_bytes_per_s
    local = (shape.leaves_per_pod - 1) * port * (cluster.links_per_switch_pair or 1)
    groups = min(shape.pods, -(-place.units * step // shape.nodes_per_pod))
    beyond = max(0, groups - 1) * port * (cluster.links_per_group_pair or 1)
    below = shape.card_bytes_per_s * shape.leaf_ports
    return local / below, beyond / (below * shape.leaves_per_pod)
