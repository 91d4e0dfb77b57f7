"""A topology's links in a task graph, added as transfers first cross them."""

from __future__ import annotations

from collections.abc import Iterable

from hardware_models.topology.topology import Topology
from policies.task_graph import TaskGraph, Transfer


class GraphLinks:
    """Makes transfers of a graph between devices of a topology."""

    def __init__(self, graph: TaskGraph, topology: Topology) -> None:
        self._graph, self._topology = graph, topology
        self._known: dict[int, int] = {}

    def transfer(self, source: int, target: int, size_bytes: float, flow_hash: int = 0) -> Transfer:
        """Bytes from one device to another."""
        path = self._topology.path(source, target, flow_hash)
        return self.over(path, size_bytes, self._topology.latency_s(path))

    def over(self, links: Iterable[int], size_bytes: float, latency_s: float = 0.0) -> Transfer:
        """Bytes over links of the topology, such as a load of a collective's phase."""
        return Transfer(tuple(self._number(link) for link in links), size_bytes, latency_s)

    def alone_s(self, transfer: Transfer) -> float:
        """Seconds of a transfer with its links to itself: what the graph wants as its duration."""
        rates = [self._graph.links[link].bytes_per_s for link in transfer.links]
        return transfer.latency_s + (transfer.size_bytes / min(rates) if rates else 0.0)

    def _number(self, link: int) -> int:
        """The graph's number for a link of the topology."""
        if link not in self._known:
            table = self._topology.links
            self._known[link] = self._graph.add_link(table.name(link), table[link])
        return self._known[link]
