"""Which node each rank of a layout runs on, and how slow the links are between nodes of ranks that talk.

Ranks fill places of a node's size in Megatron-LM's order; `training.node_mapping` says which node stands at each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations

import numpy as np

from hardware_models import catalog
from hardware_models.collective_times import NETWORKS
from hardware_models.collectives import AnyFabric, HierarchicalFabric
from hardware_models.errors import ImpossibleError
from hardware_models.specs import NodeSpec
from hardware_models.topology.placement import RankGroup
from policies.parallelism import Layout
from policies.parallelism.mapping.problem import Floats, not_an_order
from sim.training_scenario import TrainedClusterSection, TrainingScenario

GIVEN = "order"  # the mapping that says all itself


def slowdowns(cluster: TrainedClusterSection, node: NodeSpec) -> Floats | None:
    """(nodes, nodes): times as long as links of the catalog take, 0 on the diagonal; None where all are alike.

    Of a matrix of more nodes the first count. Raises ImpossibleError where links name nodes that are not there.
    """
    if cluster.node_links is None and not cluster.slow_links:
        return None
    nodes = cluster.nodes
    found = np.ones((nodes, nodes))
    if cluster.node_links is not None:
        measured = catalog.node_link(cluster.node_links)
        if measured.nodes < nodes:
            raise ImpossibleError(
                f"cluster.node_links: '{cluster.node_links}' has {measured.nodes} nodes, cluster.nodes = {nodes};"
                " measure the others, or take fewer"
            )
        found = np.array(measured.slowdowns())[:nodes, :nodes]
    for slow in cluster.slow_links:
        if not all(0 <= one < nodes for one in slow.nodes):
            raise ImpossibleError(
                f"cluster.slow_links: nodes = {slow.nodes}: cluster.nodes = {nodes} has nodes 0 to {nodes - 1}"
            )
        lone = slow.nodes[0] if len(slow.nodes) == 1 else None
        pairs = combinations(slow.nodes, 2) if lone is None else ((lone, other) for other in range(nodes))
        for a, b in pairs:
            found[a, b], found[b, a] = max(found[a, b], slow.slowdown), max(found[b, a], slow.slowdown)
    np.fill_diagonal(found, 0.0)
    if found.max() <= 1.0:
        return None
    if node.scale_up_group > node.gpus:
        raise ImpossibleError(
            f"cluster.node_links: a scale-up link joins several nodes of {node.name}, whose pairs are not told apart;"
            " leave out node_links and slow_links"
        )
    return found


def slower(fabric: AnyFabric, slowdown: float) -> AnyFabric:
    """The fabric, were what leaves a server so many times as slow."""
    if slowdown <= 1.0:
        return fabric
    if isinstance(fabric, HierarchicalFabric):
        outer = slower(fabric.outer, slowdown)
        assert not isinstance(outer, HierarchicalFabric)
        return fabric if outer is fabric.outer else HierarchicalFabric(fabric.inner, outer)
    if fabric.link.kind not in NETWORKS:
        return fabric
    return replace(fabric, link=fabric.link.narrowed(fabric.link.bandwidth_bytes_per_s / slowdown))


def slower_inside_layers(
    fabric: AnyFabric | None,
    scenario: TrainingScenario,
    node: NodeSpec,
    layout: Layout,
    group: RankGroup,
    *,
    all_pairs: bool,
) -> AnyFabric | None:
    """A fabric of ranks that share layers, as slow as the slowest pair of nodes that talk in any such group of the
    layout: neighbours in its ring, or all pairs.
    """
    if fabric is None or slower(fabric, 2.0) is fabric:  # none leaves a server
        return fabric
    links = slowdowns(scenario.cluster, node)
    if links is None:
        return fabric
    places = NodePlaces(scenario, node, layout, links)
    return slower(fabric, places.group_slowdown(range(layout.gpus), group, all_pairs=all_pairs))


@dataclass(frozen=True, eq=False)
class NodePlaces:
    """A layout on a cluster whose links are unequal."""

    scenario: TrainingScenario
    node: NodeSpec
    layout: Layout
    links: Floats  # as of `slowdowns`

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.links))):
            raise ImpossibleError(not_an_order(self.order, len(self.links)))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The node at each place: as given, else every node at its own, where none has been sought yet."""
        choice = self.scenario.training.node_mapping
        if choice.name != GIVEN:
            return tuple(range(len(self.links)))
        return tuple(choice.keys.get("nodes", ()))

    @property
    def stage_ranks(self) -> int:
        """Ranks from a stage to the next."""
        return self.layout.tp * self.layout.cp * self.layout.dp

    def place(self, rank: int) -> int:
        """Where a rank runs."""
        return rank // self.node.gpus

    def slowest(self, pairs: Iterable[tuple[int, int]]) -> float:
        """Of pairs of places, the largest slowdown; at least 1."""
        order = self.order
        return max(1.0, *(float(self.links[order[a], order[b]]) for a, b in pairs), 1.0)

    def hop(self, source: int, target: int, replica: int) -> list[tuple[int, int]]:
        """Places that talk when a stage of one copy of the model sends to another."""
        width = self.layout.tp * self.layout.cp
        ranks = range(replica * width, (replica + 1) * width)
        return list(
            dict.fromkeys(
                (self.place(source * self.stage_ranks + rank), self.place(target * self.stage_ranks + rank))
                for rank in ranks
            )
        )

    def rings(self, device: int, group: RankGroup) -> list[list[tuple[int, int]]]:
        """Of each group among a stage's ranks, the pairs of places that are neighbours in its ring."""
        first = device * self.stage_ranks
        return self._distinct(range(first, first + self.stage_ranks), group, all_pairs=False)

    def all_rings(self, group: RankGroup) -> list[list[tuple[int, int]]]:
        """The same of all ranks."""
        return self._distinct(range(self.layout.gpus), group, all_pairs=False)

    def group_slowdown(self, ranks: Sequence[int], group: RankGroup, *, all_pairs: bool) -> float:
        """The slowest pair of any group among consecutive ranks: of neighbours in its ring, or of all pairs."""
        return max(map(self.slowest, self._distinct(ranks, group, all_pairs=all_pairs)), default=1.0)

    def _distinct(self, ranks: Sequence[int], group: RankGroup, *, all_pairs: bool) -> list[list[tuple[int, int]]]:
        found: dict[tuple[tuple[int, int], ...], None] = {}
        for members in _groups(ranks, group):
            places = list(dict.fromkeys(self.place(rank) for rank in members))
            neighbours = zip(places, [*places[1:], places[0]], strict=True)
            pairs = permutations(places, 2) if all_pairs else (pair for pair in neighbours if pair[0] != pair[1])
            found[tuple(pairs)] = None
        return [list(pairs) for pairs in found if pairs]


def _groups(ranks: Sequence[int], group: RankGroup) -> Iterator[range]:
    """Groups of a size and stride that tile consecutive ranks."""
    span = group.stride * group.size
    for start in range(ranks[0], ranks[0] + len(ranks) - span + 1, span):
        for offset in range(group.stride):
            yield range(start + offset, start + span, group.stride)
