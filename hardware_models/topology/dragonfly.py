"""Dragonflies: groups of fully joined switches, every two groups joined (Kim et al., 2008; HPE Slingshot)."""

from __future__ import annotations

from hardware_models.specs import ClusterSpec
from hardware_models.topology.links import LinkTable
from hardware_models.topology.shape import Shape
from hardware_models.topology.spread import Flow, Spread


class Dragonfly:
    """Minimal paths between two cards: at most one link inside each end's group, and one between the groups.

    Global links are dealt to a group's switches in turn; parallel links between two switches are one. Where routing is
    adaptive, what leaves a switch inside a group is spread over all its links there, and what leaves a group for
    another over all links between the two. Detours over a third group are not taken.
    """

    def __init__(self, shape: Shape, cluster: ClusterSpec, spread: Spread, links: LinkTable) -> None:
        self._shape, self._spread = shape, spread
        self._switches, self._groups = shape.leaves_per_pod, shape.pods
        switches, pairs, switch_s = self._switches * self._groups, self._groups**2, shape.switch_s
        port, self._dealt = shape.port_bytes_per_s, cluster.links_per_group_pair or 1
        local = port * (cluster.links_per_switch_pair or 1)
        if spread.bundled:
            together = local * max(1, self._switches - 1)
            self._out = links.add("group up", switches, together, switch_s)
            self._into = links.add("group down", switches, together)
            self._global = links.add("global", pairs, port * self._dealt, 2 * switch_s)
        else:
            self._local = links.add("local", switches * self._switches, local, switch_s)
            self._global = links.add("global", pairs * self._dealt, port, switch_s)

    def path(self, source: tuple[int, int], target: tuple[int, int], flow: Flow) -> tuple[int, ...]:
        """Links between two cards' own, each card as node and number there."""
        start, end = self._shape.leaf(*source), self._shape.leaf(*target)
        if start == end:
            return ()
        here, there = start // self._switches, end // self._switches
        pair = here * self._groups + there
        if self._spread.bundled:
            crossing = () if here == there else (self._global + pair,)
            return (self._out + start, *crossing, self._into + end)
        if here == there:
            return self._within(start, end)
        port = self._shape.pod_port(*target)
        number = self._spread.choose(flow, self._dealt, stage=0, target_port=port)
        out, into = self._gateway(here, there, number), self._gateway(there, here, number)
        return (*self._within(start, out), self._global + pair * self._dealt + number, *self._within(into, end))

    def _within(self, start: int, end: int) -> tuple[int, ...]:
        """The link between two switches of one group."""
        return () if start == end else (self._local + start * self._switches + end % self._switches,)

    def _gateway(self, group: int, other: int, number: int) -> int:
        """The switch of a group that holds its `number`-th link to another."""
        place = other - (other > group)
        return group * self._switches + (place * self._dealt + number) % self._switches
