"""Collectives alone on their links, priced in closed form by algorithm (alpha-beta; Thakur et al., 2005)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.efficiency import link_efficiencies
from hardware_models.errors import UnknownNameError
from hardware_models.ops import Size

if TYPE_CHECKING:
    from hardware_models.specs import LinkSpec

Floats = NDArray[np.float64]
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")


@dataclass(frozen=True, slots=True)
class Fabric:
    """`ranks` devices joined by equal links, each with its full bandwidth in each direction."""

    link: LinkSpec
    ranks: int

    @property
    def hop_s(self) -> float:
        """One step of an algorithm: software per hop and wire latency."""
        return link_efficiencies()[self.link.kind].hop_s + self.link.latency_s

    @property
    def bytes_per_s(self) -> float:
        """Achieved bandwidth of one direction of one device's link."""
        return self.link.bandwidth_bytes_per_s * link_efficiencies()[self.link.kind].bandwidth_fraction

    def seconds(self, kind: str, payload_bytes: Size) -> Floats:
        """Time of one collective (or of one send), by its fastest algorithm.

        kind: one of KINDS.
        payload_bytes: the buffer one rank starts with (all_gather: the gathered whole).
        """
        if kind not in KINDS:
            raise UnknownNameError("collective", kind, KINDS)
        payload = np.asarray(payload_bytes, float)
        if self.ranks == 1 and kind != "send_recv":
            return np.zeros_like(payload)
        launch = link_efficiencies()[self.link.kind].launch_s
        share = (self.ranks - 1) / self.ranks * payload / self.bytes_per_s
        match kind:
            case "all_reduce":
                candidates = self._all_reduce_candidates(payload)
                return np.asarray(np.minimum.reduce(candidates))
            case "all_gather" | "reduce_scatter":
                return launch + (self.ranks - 1) * self.hop_s + share
            case "all_to_all":
                return launch + self.hop_s + share if self._direct else launch + (self.ranks - 1) * self.hop_s + share
            case _:
                return launch + self.hop_s + payload / self.bytes_per_s

    @property
    def _direct(self) -> bool:
        """Every pair of devices has its own path."""
        return self.link.topology in ("switch", "mesh") or self.ranks == 2

    def _all_reduce_candidates(self, payload: Floats) -> list[Floats]:
        table, n = link_efficiencies()[self.link.kind], self.ranks
        wire = payload / self.bytes_per_s
        ring = table.launch_s + 2 * (n - 1) * self.hop_s + 2 * (n - 1) / n * wire
        # double binary tree, pipelined: every byte goes up once and down once (Sanders et al., 2009)
        tree = table.launch_s + 2 * np.ceil(np.log2(n)) * self.hop_s + 2 * wire
        candidates = [ring, tree]
        if table.direct_launch_s is not None and self._direct:  # one shot: each rank reads every peer's buffer
            candidates.append(table.direct_launch_s + self.hop_s + (n - 1) * wire)
        if table.in_switch_fraction is not None and self.link.in_switch_reduction and n > 2:
            switch_bytes_per_s = self.link.bandwidth_bytes_per_s * table.in_switch_fraction
            candidates.append(table.launch_s + 4 * self.hop_s + payload / switch_bytes_per_s)
        return candidates


@dataclass(frozen=True, slots=True)
class HierarchicalFabric:
    """Groups of devices on a fast fabric, joined rank by rank over a slower one (NCCL's rings across nodes)."""

    inner: Fabric
    outer: Fabric

    def seconds(self, kind: str, payload_bytes: Size) -> Floats:
        """Time of one collective over all inner x outer ranks; arguments as of Fabric.seconds."""
        payload = np.asarray(payload_bytes, float)
        shard = payload / self.inner.ranks
        match kind:
            case "all_reduce":
                inside = self.inner.seconds("reduce_scatter", payload) + self.inner.seconds("all_gather", payload)
                return inside + self.outer.seconds("all_reduce", shard)
            case "all_gather" | "reduce_scatter":
                return self.inner.seconds(kind, payload) + self.outer.seconds(kind, shard)
            case "all_to_all":
                leaving = payload * (self.outer.ranks - 1) / self.outer.ranks
                inside = self.inner.seconds(kind, payload - leaving)
                return np.maximum(inside, self.outer.seconds(kind, payload))
            case _:
                return self.outer.seconds(kind, payload)


AnyFabric = Fabric | HierarchicalFabric
