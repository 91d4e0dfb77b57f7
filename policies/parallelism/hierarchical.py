"""Sharding by how near copies are: what is gathered often is divided over few that are near, the rest over many.

HYBRID_SHARD: FSDP, arXiv 2304.11277, section 3.2.2, and MiCS, arXiv 2205.00119. ZeRO++: arXiv 2306.10209. Three levels
of bandwidth: arXiv 2501.04266, for Frontier's pairs of dies, servers and cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from hardware_models.errors import ImpossibleError
from policies.parallelism.exchange import Hops, hop, quantized_bytes
from policies.parallelism.sharding import Zero3

KEY = "training.sharding"
INT8, INT4 = 8, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridShard(Zero3):
    """Everything is shared out among `shard_size` neighbours (those of a server), and copied over such groups.

    Gradients are reduce-scattered inside a group after each micro-batch, and each part all-reduced over the groups
    after the last one.
    """

    shard_size: int | None = None

    def placed(self, ranks: int, in_server: int) -> Self:
        """With as many neighbours as a server holds, unless it says how many."""
        return replace(self, shard_size=_group("shard_size", self.shard_size, ranks, in_server))

    def weight_parts(self, ranks: int) -> int:
        """A group's."""
        return self.shard_size or ranks

    def gradient_parts(self, ranks: int) -> int:
        """A group's."""
        return self.weight_parts(ranks)

    def optimizer_parts(self, ranks: int) -> int:
        """A group's."""
        return self.weight_parts(ranks)

    def gather(self, ranks: int, weight_width: float, *, backward: bool = False) -> Hops:
        """Inside a group."""
        return hop("all_gather", self.weight_parts(ranks), weight_width)

    def reduce(self, ranks: int, gradient_width: float) -> Hops:
        """Inside a group."""
        return hop("reduce_scatter", self.weight_parts(ranks), gradient_width)

    def finish(self, ranks: int, gradient_width: float) -> Hops:
        """Each part over the groups."""
        size = self.weight_parts(ranks)
        return hop("all_reduce", ranks // size, gradient_width / size, apart=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroPlusPlus(Zero3):
    """Stage 3 whose backward gathers from a second copy of the weights, one divided over `partition_size` neighbours
    (those of a server; hpZ), whose gathers are of 8 bits (qwZ), and whose gradients are exchanged as 4 (qgZ).
    """

    secondary_partition: bool = True
    partition_size: int | None = None
    quantized_weights: bool = True
    quantized_gradients: bool = True

    def placed(self, ranks: int, in_server: int) -> Self:
        """With as many neighbours as a server holds, unless it says how many."""
        return replace(self, partition_size=_group("partition_size", self.partition_size, ranks, in_server))

    def weight_bytes(self, parameters: float, ranks: int, weight_width: float) -> float:
        """Both copies."""
        own = parameters * weight_width / ranks
        return own + (parameters * weight_width / self._near(ranks) if self.secondary_partition else 0.0)

    def gather(self, ranks: int, weight_width: float, *, backward: bool = False) -> Hops:
        """Forward from all copies of the model, backward from neighbours' second copy."""
        if backward and self.secondary_partition:
            return hop("all_gather", self._near(ranks), weight_width)
        return gathered(ranks, weight_width, quantized=self.quantized_weights)

    def reduce(self, ranks: int, gradient_width: float) -> Hops:
        """Neighbours exchange 4 bits an element, add up in 16, and exchange again with those of their place in other
        groups.
        """
        near = self._near(ranks)
        if not self.quantized_gradients:
            return hop("reduce_scatter", ranks, gradient_width)
        return scattered(near, 1.0) + scattered(ranks // near, 1.0 / near, apart=near)

    def _near(self, ranks: int) -> int:
        return self.partition_size or ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreeLevel(Zero3):
    """Weights are divided over `weight_ranks` nearest neighbours, gradients over `gradient_ranks` (those of a server),
    the optimizer's state over all copies; once a step gradients and weights go between servers.
    """

    weight_ranks: int = 2
    gradient_ranks: int | None = None
    quantized_weights: bool = False
    quantized_gradients: bool = False

    def placed(self, ranks: int, in_server: int) -> Self:
        """With gradients divided over a server's copies, unless it says over how many."""
        size = _group("gradient_ranks", self.gradient_ranks, ranks, in_server)
        _group("weight_ranks", self.weight_ranks, size, in_server)
        return replace(self, gradient_ranks=size)

    def weight_parts(self, ranks: int) -> int:
        """The nearest neighbours."""
        return min(self.weight_ranks, ranks)

    def gradient_parts(self, ranks: int) -> int:
        """A server's copies."""
        return self.gradient_ranks or ranks

    def gather(self, ranks: int, weight_width: float, *, backward: bool = False) -> Hops:
        """Among the nearest."""
        return gathered(self.weight_parts(ranks), weight_width, quantized=self.quantized_weights)

    def reduce(self, ranks: int, gradient_width: float) -> Hops:
        """Inside a server."""
        size = self.gradient_parts(ranks)
        return scattered(size, 1.0) if self.quantized_gradients else hop("reduce_scatter", size, gradient_width)

    def finish(self, ranks: int, gradient_width: float) -> Hops:
        """Each part over the servers."""
        size = self.gradient_parts(ranks)
        return hop("reduce_scatter", ranks // size, gradient_width / size, apart=size)

    def refresh(self, ranks: int, weight_width: float) -> Hops:
        """Each copy's part of the nearest's weights from all who updated some of it."""
        parts = self.weight_parts(ranks)
        return hop("all_gather", ranks // parts, weight_width / parts, apart=parts)


def gathered(ranks: int, weight_width: float, *, quantized: bool) -> Hops:
    """Weights from so many copies, as they are or as 8 bits, which are read and written as what they were."""
    if not quantized:
        return hop("all_gather", ranks, weight_width)
    width = quantized_bytes(INT8)
    return hop("all_gather", ranks, width, passes_bytes=(weight_width + width) / ranks + width + weight_width)


def scattered(ranks: int, part: float, *, apart: int = 1) -> Hops:
    """Gradients as 4 bits to whom they belong, who adds them up; part: of the parameters that are there."""
    width, whole = quantized_bytes(INT4), 2.0
    sent, added = whole + width, width + whole / ranks
    return hop("all_to_all", ranks, part * width, apart=apart, passes_bytes=part * (sent + added))


def _group(key: str, size: int | None, ranks: int, in_server: int) -> int:
    """Of how many neighbours it is; raises ImpossibleError where they do not divide the copies."""
    found = min(in_server, ranks) if size is None else size
    if found < 1 or ranks % found or (size is None and found == 1 < ranks):
        given = f"{key} = {found}" if size is not None else f"{key}, absent, {found} in a server"
        raise ImpossibleError(f"{KEY}: {given}: makes no groups of {ranks} data-parallel ranks; give a divisor")
    return found
