"""Fat trees: leaves and spines, pods below core switches, several planes (Leiserson, 1985)."""

from __future__ import annotations

from math import ceil

from hardware_models.topology.links import LinkTable
from hardware_models.topology.shape import Shape
from hardware_models.topology.spread import Flow, Spread


class FatTree:
    """Between two cards of one plane.

    A leaf has as many uplinks, one to each spine of its pod and plane, as its ports over the oversubscription; a spine
    has as many to the core as it has leaves over the pod's. What the number of links has to be rounded for, their
    bandwidth makes up: the sum of a switch's uplinks is its downlinks' over the oversubscription.
    """

    def __init__(self, shape: Shape, spread: Spread, links: LinkTable) -> None:
        self._shape, self._spread = shape, spread
        port = shape.port_bytes_per_s
        self._uplinks, width = _split(shape.leaf_ports * shape.card_bytes_per_s / shape.oversubscription, port, spread)
        leaves = shape.pods * shape.leaves_per_pod
        self._up = links.add("leaf up", leaves * self._uplinks, width, shape.switch_s)
        self._down = links.add("leaf down", leaves * self._uplinks, width, shape.switch_s)
        below = width * shape.leaves_per_pod / shape.planes
        self._cores, width = _split(below / shape.pod_oversubscription, port, spread)
        spines = shape.pods * shape.planes * self._uplinks if shape.pods > 1 else 0
        self._core_up = links.add("spine up", spines * self._cores, width, shape.switch_s)
        self._core_down = links.add("spine down", spines * self._cores, width, shape.switch_s)

    def path(self, source: tuple[int, int], target: tuple[int, int], flow: Flow) -> tuple[int, ...]:
        """Links between two cards' own, each card as node and number there."""
        shape = self._shape
        start, end = shape.leaf(*source), shape.leaf(*target)
        if start == end:
            return ()
        port = shape.pod_port(*target)
        spine = self._spread.choose(flow, self._uplinks, stage=0, target_port=port)
        up, down = self._up + start * self._uplinks + spine, self._down + end * self._uplinks + spine
        from_pod, to_pod = source[0] // shape.nodes_per_pod, target[0] // shape.nodes_per_pod
        if from_pod == to_pod:
            return (up, down)
        core = self._spread.choose(flow, self._cores, stage=1, target_port=port // self._uplinks)
        plane = source[1] % shape.planes
        first, last = ((pod * shape.planes + plane) * self._uplinks + spine for pod in (from_pod, to_pod))
        return (up, self._core_up + first * self._cores + core, self._core_down + last * self._cores + core, down)


def _split(total_bytes_per_s: float, port_bytes_per_s: float, spread: Spread) -> tuple[int, float]:
    """Number of parallel links, and bytes/s of each, that have a total: one where flows are spread over all."""
    count = 1 if spread.bundled else max(1, ceil(total_bytes_per_s / port_bytes_per_s - 1e-9))
    return count, total_bytes_per_s / count
