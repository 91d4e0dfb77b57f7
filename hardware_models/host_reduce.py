"""All-reduce through the memory of hosts: devices copy there, CPUs add, cards exchange along two trees, copies return.

HFReduce of Fire-Flyer (arXiv 2408.14158, section IV): chunks pass all stages at once, so that a long message takes what
its slowest stage takes, after the first chunk has gone all the way. A byte of the result is written and read in memory
2 n + 8 times for n buffers: n copies in, n read and one written by the sum, five times for the network, and twice for
copies out, one a socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from hardware_models import catalog
from hardware_models.collectives import Fabric
from hardware_models.errors import ImpossibleError
from hardware_models.specs import NodeSpec
from hardware_models.topology.collective_flows import double_tree_parents

COPY_FRACTION = 0.8  # of a PCIe link that pinned copies reach: 25 of 31.5 GB/s, typical
MEMORY_FRACTION = 320.0 / 409.6  # of the data sheet that hosts' memory gives (the paper: 320 GB/s of two sockets')
TOUCHES_OF_NETWORK, TOUCHES_OF_COPIES_OUT = 5, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReduce:
    """Groups of `copies` devices in each of `nodes` servers, which fill the server and run at once.

    Bridged pairs of devices of one group add up over NVLink first, and copy half each.
    """

    node: NodeSpec
    copies: int
    nodes: int
    network: str | None = None
    chunk_bytes: float = 4.0 * (1 << 20)

    def __post_init__(self) -> None:
        if self.nodes > 1 and not self.node.nics:
            raise ImpossibleError(f"cluster.node: {self.node.name} has no network card; keep copies in one server")

    def seconds(self, payload_bytes: float) -> float:
        """Until every device has the sum of what all have; payload: of one device."""
        if payload_bytes <= 0 or self.copies * self.nodes < 2:
            return 0.0
        stages = self.stages_s(payload_bytes)
        first = min(1.0, self.chunk_bytes / payload_bytes)
        hops = 2 * ceil(log2(self.nodes)) if self.nodes > 1 else 0
        inside = sum(seconds for name, seconds in stages.items() if name != "network")
        return max(stages.values()) + first * inside + hops * self._hop_s(first * payload_bytes)

    def stages_s(self, payload_bytes: float) -> dict[str, float]:
        """Seconds that each stage takes with all bytes of all groups of a server."""
        node, each = self.node, payload_bytes / (2.0 if self.bridged else 1.0)
        pcie = catalog.link(node.pcie).bandwidth_bytes_per_s * COPY_FRACTION
        found = {"copies": each / pcie, "memory": self._touched_bytes(payload_bytes) / self.memory_bytes_per_s}
        if shared := self._ports_s(each):
            found["shared ports"] = shared
        if self.nodes > 1:
            found["network"] = self.groups * self.sent_fraction * payload_bytes / self.card_bytes_per_s
        if self.bridged and node.scale_up is not None:
            bridge = Fabric(catalog.link(node.scale_up), 2, custom_all_reduce=False)
            found["bridges"] = payload_bytes / bridge.bytes_per_s
        return found

    @property
    def groups(self) -> int:
        """That run at once in a server."""
        return max(1, self.node.gpus // self.copies)

    @property
    def bridged(self) -> bool:
        """Are neighbours of a group joined in pairs?"""
        node = self.node
        link = catalog.link(node.scale_up) if node.scale_up is not None else None
        return link is not None and link.topology == "pairs" and self.copies % 2 == 0 and self.copies == node.gpus

    @property
    def memory_bytes_per_s(self) -> float:
        """Of a host."""
        cpu = catalog.cpu(self.node.cpu)
        return cpu.memory_bandwidth_bytes_per_s * self.node.cpu_sockets * MEMORY_FRACTION

    @property
    def card_bytes_per_s(self) -> float:
        """All of a server's, one direction, as long messages reach it."""
        card = catalog.nic(self.node.nic)
        link = catalog.link(self.network or card.link)
        port = link.narrowed(min(link.bandwidth_bytes_per_s, card.bandwidth_bytes_per_s))
        return self.node.nics * Fabric(port, 2, custom_all_reduce=False).bytes_per_s

    @property
    def sent_fraction(self) -> float:
        """Of the payload, what the busiest server sends over both trees: half of it to a parent, and to each child."""
        sent = [0.0] * self.nodes
        for tree in double_tree_parents(self.nodes):
            for child, parent in enumerate(tree):
                if parent >= 0:
                    sent[child] += 0.5
                    sent[parent] += 0.5
        return max(sent)

    def _touched_bytes(self, payload_bytes: float) -> float:
        """Of a host's memory."""
        buffers = self.copies / (2 if self.bridged else 1)
        touches = 2 * buffers + 1 + TOUCHES_OF_COPIES_OUT + (TOUCHES_OF_NETWORK if self.nodes > 1 else 0)
        return self.groups * touches * payload_bytes

    def _ports_s(self, each_bytes: float) -> float:
        """Of root ports that devices share, whose bandwidth is taken to be that of both directions together."""
        switches = self.node.pcie_switches or ()
        busy = [2 * len(one.gpus) * each_bytes / one.uplink_bytes_per_s for one in switches if len(one.gpus) > 1]
        return max(busy, default=0.0)

    def _hop_s(self, size_bytes: float) -> float:
        """A chunk from one server to the next."""
        card = catalog.nic(self.node.nic)
        link = catalog.link(self.network or card.link)
        return link.latency_s + self.groups * 0.5 * size_bytes / self.card_bytes_per_s
