"""Sends between stages and exchanges between copies that leave a server share each GPU's part of its network cards.

Alone each takes what its fabric says; at once they share the card max-min fairly, in each direction, so that how much
they hold one another up is found by running them.
"""

from __future__ import annotations

from collections.abc import Mapping

from hardware_models.collective_times import NETWORKS
from hardware_models.collectives import AnyFabric, Fabric, HierarchicalFabric
from policies.task_graph import TaskGraph, Transfer
from sim.training.deployment import TrainingDeployment


def share_network_cards(
    graph: TaskGraph, deployment: TrainingDeployment, receivers: Mapping[int, int], exchanges: Mapping[int, str]
) -> None:
    """Let tasks of a step share cards.

    receivers: task of a send -> the device that it goes to. exchanges: task -> kind of its collective among copies.
    """
    sends, copies = _across(deployment.pipeline_fabric), _across(deployment.data_fabric)
    if sends is None or copies is None:  # one kind alone takes its turn on a stream of its own
        return
    rate = max(sends.bytes_per_s, copies.bytes_per_s)
    cards = [
        (graph.add_link(f"card of device {device}, out", rate), graph.add_link(f"card of device {device}, in", rate))
        for device in range(deployment.layout.pp)
    ]
    latency_s = float(sends.seconds("send_recv", 0.0))
    for task, receiver in receivers.items():
        sender = graph.streams[graph.stream[task]].device
        _flow(graph, task, (cards[sender][0], cards[receiver][1]), min(latency_s, graph.duration_s[task]), rate)
    fabric = deployment.data_fabric
    if fabric is None:
        return
    latencies = {kind: float(fabric.seconds(kind, 0.0)) for kind in set(exchanges.values())}
    for task, kind in exchanges.items():
        device = graph.streams[graph.stream[task]].device
        _flow(graph, task, cards[device], min(latencies[kind], graph.duration_s[task]), rate)


def _flow(graph: TaskGraph, task: int, links: tuple[int, int], latency_s: float, rate: float) -> None:
    """As many bytes as take what the task takes beyond its latency."""
    wire_s = graph.duration_s[task] - latency_s
    if wire_s <= 0:
        return
    graph.transfer[task] = Transfer(links, wire_s * rate, latency_s)
    graph.duration_s[task] = latency_s + wire_s * rate / rate


def _across(fabric: AnyFabric | None) -> Fabric | None:
    """The part of a fabric that leaves a server."""
    outer = fabric.outer if isinstance(fabric, HierarchicalFabric) else fabric
    return outer if outer is not None and outer.link.kind in NETWORKS else None
