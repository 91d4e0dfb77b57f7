"""Seconds of exchanges of rows among expert-parallel ranks.

Where rows leave once for a server, a kernel sends them to the rank of the same index there, which hands them on over
the server's own links while more arrive: the slower of the two levels counts (DeepEP; DeepSeek-V3, arXiv 2412.19437,
section 3.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.collectives import AnyFabric, HierarchicalFabric
from workloads.training.operator import ExpertExchange


@dataclass(frozen=True, slots=True)
class ExpertLinks:
    """What joins the expert-parallel ranks."""

    fabric: AnyFabric

    @property
    def servers(self) -> int:
        """In which the ranks lie."""
        return self.fabric.outer.ranks if isinstance(self.fabric, HierarchicalFabric) else 1

    def seconds(self, exchange: ExpertExchange) -> float:
        """Of one exchange alone."""
        fabric = self.fabric
        if exchange.across_bytes is None or not isinstance(fabric, HierarchicalFabric):
            return float(fabric.seconds(exchange.kind, exchange.payload_bytes))
        across = float(fabric.outer.seconds(exchange.kind, exchange.across_bytes))
        return max(across, float(fabric.inner.seconds(exchange.kind, exchange.payload_bytes)))

    def sigma(self, exchange: ExpertExchange) -> float:
        """Standard deviation of log(measured / predicted) of that."""
        return float(self.fabric.sigma(exchange.kind, exchange.payload_bytes))
