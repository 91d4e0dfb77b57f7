"""What each of several groups gets of the links that they share, all in the same collective at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from hardware_models.topology.collective_flows import by_server, rails
from hardware_models.topology.inside import Path
from hardware_models.topology.max_min import weighted_rates
from hardware_models.topology.topology import Topology

Hop = tuple[int, int]


def contended_groups(topology: Topology, groups: Sequence[Sequence[int]], flow_hash: int = 0) -> list[float]:
    """Bytes/s that each group's ring has at each of its hops, all rings running at once; inf for lone devices.

    A ring's hops go at the pace of its slowest. A group with several devices in each of several servers is as many
    rings, one through each place of a server (rails); the bandwidth is each rail's.
    """
    uses = [_use(topology, hops(topology, group), flow_hash) for group in groups]
    return weighted_rates(uses, topology.links)


def sharing_factor(topology: Topology, groups: Sequence[Sequence[int]], flow_hash: int = 0) -> float:
    """The slowest group's bandwidth beside the others, over what it would have alone; 1: they do not feel each other.

    Steps wait for the slowest of their groups.
    """
    shared = contended_groups(topology, groups, flow_hash)
    alone = (contended_groups(topology, [group], flow_hash)[0] for group in groups)
    return min((rate / free for rate, free in zip(shared, alone, strict=True) if free < inf), default=1.0)


def hops(topology: Topology, group: Sequence[int]) -> list[Hop]:
    """Who sends to whom: one ring in a server, or over servers that hold unequal parts of the group; else a ring over
    servers for each place in them.
    """
    servers = by_server(topology, group)
    even = len(servers) > 1 and len({len(part) for part in servers}) == 1
    rings: Iterable[Sequence[int]] = rails(servers) if even else [group]
    return [(a, ring[(place + 1) % len(ring)]) for ring in rings for place, a in enumerate(ring) if len(ring) > 1]


def least_loaded_paths(topology: Topology, pairs: Sequence[Hop], choices: int = 8) -> list[Path]:
    """A path for each flow, in order: of those that so many hashes lead to, the one whose fullest link has the least
    flows for its bandwidth yet (as adaptive routing chooses for whole flows, or a planner that places them).
    """
    flows: dict[int, int] = {}
    chosen = []
    for source, target in pairs:
        options = dict.fromkeys(topology.path(source, target, label) for label in range(choices))
        best = min(
            options,
            key=lambda path: max(((flows.get(link, 0) + 1) / topology.links[link] for link in path), default=0.0),
        )
        for link in best:
            flows[link] = flows.get(link, 0) + 1
        chosen.append(best)
    return chosen


def _use(topology: Topology, pairs: Iterable[Hop], flow_hash: int) -> dict[int, float]:
    """Link -> bytes over it for each byte that every hop moves."""
    use: dict[int, float] = {}
    for source, target in pairs:
        for link, part in topology.load(source, target, flow_hash).items():
            use[link] = use.get(link, 0.0) + part
    return use
