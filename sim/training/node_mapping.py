"""A training scenario deployed on a cluster whose links are unequal, its nodes placed as `training.node_mapping` says.

What an order costs is Pipette's closed form (arXiv 2405.18093) of this step: sends of one micro-batch down the
pipeline and back, those in which the busiest stage stands still, and what copies exchange, each over the slowest pair
that it crosses.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from hardware_models.topology.placement import RankGroup
from policies.parallelism.mapping import NODE_MAPPINGS, Mapping, MappingProblem, NodeMapping
from policies.parallelism.mapping.problem import Floats, Order, Pairs
from sim.policy_choice import make_policy
from sim.section import PolicyChoice
from sim.training.deployment import TrainingDeployment, deploy_training
from sim.training.meetings import meetings_s
from sim.training.node_places import GIVEN, NodePlaces, slowdowns, slower
from sim.training.step_graph import StepGraphBuilder
from sim.training_scenario import TrainingScenario

Rings = list[tuple[float, Pairs]]


def deploy_mapped(
    scenario: TrainingScenario, method: NodeMapping | None = None
) -> tuple[TrainingDeployment, Mapping | None]:
    """A scenario deployed, its nodes placed; None where links are alike, and no order is better than another.

    method: in place of the scenario's own. Raises as `deploy_training`, and for a mapping that is none.
    """
    own = make_policy("training.node_mapping", scenario.training.node_mapping, NODE_MAPPINGS, {})
    deployment = deploy_training(scenario)
    problem = mapping_problem(deployment)
    if problem is None:
        return deployment, None
    mapping = (method or own).solve(problem, scenario.seed)
    placed = tuple(scenario.training.node_mapping.keys.get("nodes", problem.identity))
    if mapping.order != placed:
        deployment = deploy_training(ordered(scenario, mapping.order))
    return deployment, mapping


def ordered(scenario: TrainingScenario, order: Order) -> TrainingScenario:
    """The scenario with its nodes in that order."""
    choice = PolicyChoice.model_validate({"name": GIVEN, "nodes": list(order)})
    training = scenario.training.model_copy(update={"node_mapping": choice})
    return scenario.model_copy(update={"training": training})


def mapping_problem(deployment: TrainingDeployment) -> MappingProblem | None:
    """Which orders cost what in a step; None where links are alike."""
    links = slowdowns(deployment.scenario.cluster, deployment.node)
    if links is None:
        return None
    places = NodePlaces(deployment.scenario, deployment.node, deployment.layout, links)
    builder = StepGraphBuilder(deployment)
    builder.build()
    owner = [stream.device for stream in builder.graph.streams]
    sends = Counter((owner[builder.graph.stream[task]], to) for task, to in builder.receivers.items())
    hops = sorted(sends)
    pairs = [[places.hop(*hop, replica) for replica in range(deployment.layout.dp)] for hop in hops]
    kinds = [_copies(builder, places), _layers(deployment, places), _ends(builder, places), _met(builder, places)]
    return MappingProblem(links, pairs, _chains_s(builder, sends), [kind for kind in kinds if kind])


def _chains_s(builder: StepGraphBuilder, sends: Counter[tuple[int, int]]) -> Floats:
    """(chains, hops): seconds over links that are alike, of a chain for each stage that stands still as it sends."""
    deployment, hops = builder.deployment, sorted(sends)
    schedule, pp = deployment.schedule, deployment.layout.pp
    owners = [schedule.device_of(stage, pp) for stage in range(schedule.stages(pp))]
    once: Counter[tuple[int, int]] = Counter()
    for source, target in pairwise(owners):
        once.update([(source, target), (target, source)])
    wire_s = np.array([builder.hops.seconds(*hop, 2.0) - builder.hops.seconds(*hop) for hop in hops])
    chain_s = np.array([once[hop] for hop in hops]) * wire_s
    if deployment.overlap_p2p or not hops:
        return np.asarray(chain_s[None, :])
    later = 1.0 - 1.0 / deployment.layout.micro_batches
    stands_s = np.array([
        [later * sends[hop] * seconds * (hop[0] == device) for hop, seconds in zip(hops, wire_s, strict=True)]
        for device in range(pp)
    ])  # fmt: skip
    return np.asarray(chain_s[None, :] + stands_s)


def _copies(builder: StepGraphBuilder, places: NodePlaces) -> Rings:
    """What copies exchange in a step: of each stage, by the groups that do."""
    seconds: dict[tuple[int, RankGroup], float] = {}
    for task, (part, hop) in builder.exchanges.priced.items():
        device = builder.graph.streams[builder.graph.stream[task]].device
        key = device, RankGroup(part.prices.stride * hop.apart, hop.ranks)
        one_s, two_s = (part.prices.exchange_s(hop, part.parameters, times) for times in (1.0, 2.0))
        seconds[key] = seconds.get(key, 0.0) + two_s - one_s
    return [(total_s, pairs) for (device, group), total_s in seconds.items() for pairs in places.rings(device, group)]


def _ends(builder: StepGraphBuilder, places: NodePlaces) -> Rings:
    """What the first and last stage exchange of a table they share."""
    first, last = builder.exchanges.tied_devices
    fabric, size = builder.hops.fabric(first, last), builder.deployment.stages[0].tied_bytes
    if fabric is None or not size or first == last:
        return []
    one_s, two_s = (float(slower(fabric, times).seconds("all_reduce", size)) for times in (1.0, 2.0))
    copies = range(builder.deployment.layout.dp)
    ways = (places.hop(*ends, copy) for copy in copies for ends in ((first, last), (last, first)))
    return [(two_s - one_s, pairs) for pairs in ways]


def _met(builder: StepGraphBuilder, places: NodePlaces) -> Rings:
    """Exchanges among all stages of a pipeline, where its schedule has such."""
    pp, kinds = builder.deployment.layout.pp, Counter(builder.graph.kind)
    one_s, two_s = (dict(meetings_s(builder.deployment, times)) for times in (1.0, 2.0))
    total_s = sum(kinds[kind] / pp * (two_s[kind] - one_s[kind]) for kind in one_s)
    return [(total_s, pairs) for pairs in places.all_rings(RankGroup(places.stage_ranks, pp)) if one_s]


def _layers(deployment: TrainingDeployment, places: NodePlaces) -> Rings:
    """Exchanges among ranks that share layers, where they lie in several nodes."""
    layout = deployment.layout
    groups = (RankGroup(1, layout.tp), RankGroup(layout.tp, layout.cp), RankGroup(layout.etp, layout.ep))
    a_stage_s = sum(work.forward.network_s + work.backward.network_s for work in deployment.stages) / layout.pp
    network_s = layout.micro_batches * a_stage_s
    return [(network_s, pairs) for group in groups for pairs in places.all_rings(group)]
