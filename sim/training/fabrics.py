"""Which links join which ranks of a training plan."""

from __future__ import annotations

from dataclasses import replace

from hardware_models.collectives import AnyFabric, Fabric, HierarchicalFabric
from hardware_models.specs import NodeSpec
from hardware_models.topology.groups import RankGroup, group_fabric
from policies.parallelism import Layout
from sim.training.node_places import slower_inside_layers
from sim.training_scenario import TrainingScenario


def rank_fabric(scenario: TrainingScenario, node: NodeSpec, ranks: int, stride: int) -> AnyFabric | None:
    """Among ranks so many GPUs apart, by the framework's collectives alone; None where there is but one."""
    if ranks < 2:
        return None
    fabric = group_fabric(node, RankGroup(stride, ranks), network=scenario.cluster.network)
    if isinstance(fabric, HierarchicalFabric):
        return HierarchicalFabric(_plain(fabric.inner), _plain(fabric.outer))
    return _plain(fabric)


def layer_fabric(
    scenario: TrainingScenario, node: NodeSpec, layout: Layout, group: RankGroup, *, all_pairs: bool = False
) -> AnyFabric | None:
    """Among ranks that share layers: as fast as the slowest of all such groups."""
    fabric = rank_fabric(scenario, node, group.size, group.stride)
    return slower_inside_layers(fabric, scenario, node, layout, group, all_pairs=all_pairs)


def _plain(fabric: Fabric) -> Fabric:
    return replace(fabric, custom_all_reduce=False)
