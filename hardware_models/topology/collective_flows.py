"""What a collective puts on which links: phases of flows, each after its latency.

On idle links their times are the closed forms of alpha-beta models (Thakur et al., 2005): ring all-reduce 2 (n-1) alpha
+ 2 (n-1)/n S/B, double binary trees 2 ceil(log2 n) alpha + 2 S/B, in the switch alpha + (1 + 1/n) S/B, all-to-all alpha
+ (n-1)/n S/B. On shared links the flows of several collectives get what max-min fairness leaves them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log2

from hardware_models import catalog
from hardware_models.errors import ImpossibleError, UnknownNameError
from hardware_models.topology.inside import Path
from hardware_models.topology.max_min import max_min_rates
from hardware_models.topology.topology import Topology

RING_STEPS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}  # times (n - 1)


@dataclass(frozen=True, slots=True)
class Load:
    """Bytes over links that they cross at once."""

    links: Path
    size_bytes: float


@dataclass(frozen=True, slots=True)
class Phase:
    """Flows that start together, after the latency of all the steps they stand for."""

    loads: tuple[Load, ...]
    latency_s: float


def ring(topology: Topology, devices: Sequence[int], kind: str, payload_bytes: float, flow_hash: int = 0) -> Phase:
    """All steps of a ring in the order of the devices, as one: every device sends to the next at all times.

    kind: all_reduce, all_gather or reduce_scatter. payload_bytes: as of Fabric.seconds. Raises UnknownNameError.
    """
    if kind not in RING_STEPS:
        raise UnknownNameError("ring of", kind, RING_STEPS)
    n = len(devices)
    if n < 2:
        return Phase((), 0.0)
    steps = RING_STEPS[kind] * (n - 1)
    hops = [topology.path(device, devices[(place + 1) % n], flow_hash) for place, device in enumerate(devices)]
    loads = tuple(Load(path, steps / n * payload_bytes) for path in hops)
    return Phase(loads, steps * _slowest_s(topology, hops))


def double_tree(topology: Topology, devices: Sequence[int], payload_bytes: float, flow_hash: int = 0) -> Phase:
    """All-reduce over two binary trees, half of the bytes each, up and down at once (Sanders et al., 2009): a device
    that has children in one has none in the other, but for the first of an odd number.
    """
    n = len(devices)
    if n < 2:
        return Phase((), 0.0)
    edges = [(child, parent) for tree in double_tree_parents(n) for child, parent in enumerate(tree) if parent >= 0]
    both = [pair for edge in edges for pair in (edge, edge[::-1])]
    paths = [topology.path(devices[source], devices[target], flow_hash) for source, target in both]
    loads = tuple(Load(path, payload_bytes / 2) for path in paths)
    return Phase(loads, 2 * ceil(log2(n)) * _slowest_s(topology, paths))


def double_tree_parents(ranks: int) -> tuple[list[int], list[int]]:
    """Each rank's parent in both trees; -1 for the roots. In the first, ranks are in order, odd ones have no children;
    the second is its mirror image for an even number of ranks, else shifted by one.
    """
    first = [-1] * ranks
    for rank in range(1, ranks):
        lowest = rank & -rank
        above = (rank ^ lowest) | lowest << 1
        first[rank] = above if above < ranks else rank ^ lowest
    second = [-1] * ranks
    for rank in range(ranks):
        twin = ranks - 1 - rank if ranks % 2 == 0 else (rank + 1) % ranks
        parent = first[rank]
        second[twin] = parent if parent < 0 else (ranks - 1 - parent if ranks % 2 == 0 else (parent + 1) % ranks)
    return first, second


def in_switch(topology: Topology, devices: Sequence[int], payload_bytes: float) -> Phase:
    """All-reduce by a scale-up switch that adds up: each device sends all its bytes once and its reduced share once
    more, and receives as much. Raises ImpossibleError where no such switch joins the devices.
    """
    node = topology.node
    switch = catalog.link(node.scale_up) if node.scale_up is not None else None
    joined = all(topology.on_one_switch(devices[0], device) for device in devices)
    if switch is None or not switch.in_switch_reduction or not joined:
        raise ImpossibleError(f"{node.name}: no switch that reduces joins devices {list(devices)}; use a ring or trees")
    n = len(devices)
    if n < 2:
        return Phase((), 0.0)
    paths = [topology.path(device, devices[(place + 1) % n]) for place, device in enumerate(devices)]
    sent = payload_bytes * (1 + 1 / n)
    return Phase(tuple(Load((link,), sent) for path in paths for link in path), _slowest_s(topology, paths))


def all_to_all(topology: Topology, devices: Sequence[int], payload_bytes: float, flow_hash: int = 0) -> Phase:
    """Every device sends each other its share; payload_bytes: what a device starts with, its own share included."""
    share = payload_bytes / max(len(devices), 1)
    paths = [topology.path(a, b, flow_hash) for a in devices for b in devices if a != b]
    return Phase(tuple(Load(path, share) for path in paths), _slowest_s(topology, paths))


def all_to_all_by_rail(
    topology: Topology, devices: Sequence[int], payload_bytes: float, flow_hash: int = 0
) -> tuple[Phase, Phase]:
    """The same in two steps: inside servers to the neighbour whose place is the receiver's, then from there to the
    same place of the other servers (NCCL's PXN, DeepEP); n x servers flows instead of n x n.
    """
    servers = by_server(topology, devices)
    share = payload_bytes / len(devices)
    inside = [
        (topology.path(a, b, flow_hash), share * len(servers))
        for group in servers
        for a in group
        for b in group
        if a != b
    ]
    across = [
        (topology.path(a, b, flow_hash), share * len(servers[0]))
        for rail in rails(servers)
        for a in rail
        for b in rail
        if a != b
    ]
    first, second = (
        Phase(tuple(Load(path, size) for path, size in loads), _slowest_s(topology, [path for path, _ in loads]))
        for loads in (inside, across)
    )
    return first, second


def hierarchical_all_reduce(
    topology: Topology, devices: Sequence[int], payload_bytes: float, flow_hash: int = 0
) -> tuple[Phase, Phase, Phase]:
    """Reduce-scatter inside servers, all-reduce of each share over its rail, all-gather inside servers."""
    servers = by_server(topology, devices)
    share = payload_bytes / len(servers[0])
    across = [ring(topology, rail, "all_reduce", share, flow_hash) for rail in rails(servers)]
    return (
        together(ring(topology, group, "reduce_scatter", payload_bytes, flow_hash) for group in servers),
        together(across),
        together(ring(topology, group, "all_gather", payload_bytes, flow_hash) for group in servers),
    )


def by_server(topology: Topology, devices: Sequence[int]) -> list[list[int]]:
    """Devices in order, cut where the next is reached through a card."""
    groups: list[list[int]] = []
    for device in devices:
        home = next((group for group in groups[-1:] if topology.joined_inside(group[0], device)), None)
        if home is None:
            groups.append([device])
        else:
            home.append(device)
    return groups


def rails(servers: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The devices of equal place in their servers; raises ImpossibleError where one holds more than another."""
    sizes = sorted({len(group) for group in servers})
    if len(sizes) != 1:
        raise ImpossibleError(f"a group has {sizes} devices in its servers; rails need as many in each")
    return list(zip(*servers, strict=True))


def together(phases: Iterable[Phase]) -> Phase:
    """Phases that run side by side as one: the longest latency, all flows."""
    phases = list(phases)
    loads = tuple(load for phase in phases for load in phase.loads)
    return Phase(loads, max((phase.latency_s for phase in phases), default=0.0))


def idle_seconds(topology: Topology, phases: Iterable[Phase]) -> float:
    """Phases one after another on links that nobody else uses."""
    return sum(phase.latency_s + drain_seconds(phase.loads, topology) for phase in phases)


def drain_seconds(loads: Sequence[Load], topology: Topology) -> float:
    """Until the last of some flows that start together has ended; the others' share grows as flows end."""
    left = [(load.links, load.size_bytes) for load in loads if load.links and load.size_bytes > 0.0]
    elapsed_s = 0.0
    while left:
        rates = max_min_rates([links for links, _ in left], topology.links)
        spans_s = [size / rate for (_, size), rate in zip(left, rates, strict=True)]
        span_s = min(spans_s)
        elapsed_s += span_s
        still = zip(left, rates, spans_s, strict=True)
        left = [(links, size - rate * span_s) for (links, size), rate, own in still if own > span_s * (1 + 1e-12)]
    return elapsed_s


def _slowest_s(topology: Topology, paths: Iterable[Path]) -> float:
    return max((topology.latency_s(path) for path in paths), default=0.0)
