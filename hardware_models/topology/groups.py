"""The fabric of a group of ranks, by where its ranks lie and who else uses the links they share."""

from __future__ import annotations

import functools

from hardware_models import catalog
from hardware_models.collectives import AnyFabric, Fabric, HierarchicalFabric
from hardware_models.errors import ImpossibleError
from hardware_models.specs import ClusterSpec, LinkSpec, NodeSpec
from hardware_models.topology.inside import peer_bandwidths
from hardware_models.topology.network_share import Pattern, network_bytes_per_s
from hardware_models.topology.placement import Placement, RankGroup, rank_groups
from hardware_models.topology.sharing import contended_groups
from hardware_models.topology.topology import Topology

__all__ = ["RankGroup", "group_fabric", "network_link", "rank_groups", "scale_up_link", "tensor_fabric"]


def tensor_fabric(node: NodeSpec, ranks: int, network: str | None) -> AnyFabric:
    """What joins the ranks of one tensor-parallel group, packed into as few scale-up groups and nodes as possible."""
    pcie = catalog.link(node.pcie)
    if node.scale_up is not None and ranks <= node.scale_up_group:
        return Fabric(scale_up_link(node, node.scale_up, ranks), ranks)
    if ranks <= node.gpus:
        if node.scale_up is None or node.scale_up_group == 1:
            return Fabric(pcie, ranks)
        inner = Fabric(catalog.link(node.scale_up), node.scale_up_group)
        return HierarchicalFabric(inner, Fabric(pcie, -(-ranks // node.scale_up_group)))
    inside = tensor_fabric(node, max(node.gpus, node.scale_up_group), network)
    inner = inside if isinstance(inside, Fabric) else inside.inner
    return HierarchicalFabric(inner, Fabric(network_link(node, network), -(-ranks // inner.ranks)))


def group_fabric(
    node: NodeSpec,
    group: RankGroup,
    *,
    network: str | None = None,
    cluster: ClusterSpec | None = None,
    concurrent: int | None = None,
    pattern: Pattern = "ring",
) -> AnyFabric:
    """What joins the ranks of a group, while other groups of its kind run beside it.

    network: link that cards plug into, by name; None: the cluster's, or the card's own. cluster: whose switches the
    groups share, with as many nodes as the job has; None: a network that is no bottleneck. concurrent: how many groups
    run at once in each server; None: all. pattern: what they run, which matters beyond the leaf switches.
    Raises ImpossibleError for groups across servers without cards.
    """
    network = network or (cluster.network if cluster is not None else None)
    files = [name for name in (node.scale_up, node.pcie, node.nic, network) if name and name.endswith(".toml")]
    built = _group_fabric if files else _kept_fabric  # a user's file is read afresh each time
    return built(node, group, network, cluster, concurrent, pattern)


def _group_fabric(
    node: NodeSpec,
    group: RankGroup,
    network: str | None,
    cluster: ClusterSpec | None,
    concurrent: int | None,
    pattern: Pattern,
) -> AnyFabric:
    place = Placement.of(node, group)
    inside = _inside(node, RankGroup(group.stride, place.per_unit), place, concurrent)
    if place.units == 1:
        return inside
    inner = inside if isinstance(inside, Fabric) else inside.inner
    link = _network(node, network)
    share = network_bytes_per_s(node, group, network or catalog.nic(node.nic).link, cluster, concurrent, pattern)
    if isinstance(inside, HierarchicalFabric) and pattern == "ring":
        # as many rings as a pair has ranks pass all pairs of a server, and have all its cards
        share = min(inside.outer.link.bandwidth_bytes_per_s, share * place.per_unit / inner.ranks)
    outer = Fabric(link.narrowed(share), -(-group.size // inner.ranks))
    return outer if inner.ranks == 1 else HierarchicalFabric(inner, outer)


_kept_fabric = functools.lru_cache(maxsize=4096)(_group_fabric)


def _inside(node: NodeSpec, group: RankGroup, place: Placement, concurrent: int | None) -> AnyFabric:
    """Of ranks in one server or scale-up group."""
    reach = group.stride * (group.size - 1) + 1
    if node.scale_up is not None and reach <= place.domain:
        return Fabric(scale_up_link(node, node.scale_up, group.size, group.stride), group.size)
    bus = _bus_link(node, group, place, concurrent)
    mapped = node.pcie_switches is not None  # the tree that is known is the one that devices reach each other over
    paired = place.domain // group.stride
    if node.scale_up is None or paired <= 1:
        return Fabric(bus, group.size, peer_access=mapped)
    inner = Fabric(scale_up_link(node, node.scale_up, paired, group.stride), paired)
    return HierarchicalFabric(inner, Fabric(bus, -(-group.size // paired), peer_access=mapped))


def _bus_link(node: NodeSpec, group: RankGroup, place: Placement, concurrent: int | None) -> LinkSpec:
    """The host's bus; of a known PCIe tree, what its shared uplinks leave each rank."""
    pcie = catalog.link(node.pcie)
    if node.pcie_switches is None or group.size == 1:
        return pcie
    lone = ClusterSpec(
        name="one server", node=node.name, nodes=1, network=catalog.nic(node.nic).link, nodes_per_leaf=1,
        oversubscription=1.0,
    )  # fmt: skip
    members = [
        [offset + number * group.stride for number in range(group.size)] for offset in place.offsets(group, concurrent)
    ]
    return pcie.narrowed(min(pcie.bandwidth_bytes_per_s, *contended_groups(Topology(node, lone), members)))


def scale_up_link(node: NodeSpec, name: str, ranks: int, stride: int = 1) -> LinkSpec:
    """What `ranks` devices of a scale-up group, `stride` apart, have for each other: in a mesh, only the links between
    them.
    """
    link = catalog.link(name)
    if link.topology != "mesh" or ranks == 1:
        return link
    near, far = peer_bandwidths(link, node.scale_up_group)
    peer = near if stride == 1 else far
    share = min(link.bandwidth_bytes_per_s, (ranks - 1) * peer)
    return link.narrowed(share)


def network_link(node: NodeSpec, name: str | None) -> LinkSpec:
    """A GPU's share of its node's cards, as a link, while all GPUs of the node send; one card's at most."""
    link = _network(node, name)
    card = catalog.nic(node.nic)
    share = min(link.bandwidth_bytes_per_s, card.bandwidth_bytes_per_s) * min(1.0, node.nics / node.gpus)
    return link.narrowed(share)


def _network(node: NodeSpec, name: str | None) -> LinkSpec:
    """The link that a server's cards plug into."""
    if not node.nics:
        raise ImpossibleError(f"cluster.node: {node.name} has no network card; keep a replica inside one node")
    return catalog.link(name or catalog.nic(node.nic).link)
