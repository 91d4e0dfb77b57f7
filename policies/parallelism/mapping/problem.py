"""Which node stands at which place of a layout, where links of node pairs are unequal: what an order costs.

After Pipette (arXiv 2405.18093, section on worker dedication): messages between stages are summed along each pipeline,
the slowest pipeline counts, and a ring of copies is as fast as its slowest pair. A message's seconds are those over a
link like the catalog's, times the slowdown of the node pair it crosses; what stays in a node costs nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Order = tuple[int, ...]  # the node at each place
Pairs = Sequence[tuple[int, int]]  # of places: who sends, and to whom


@dataclass(frozen=True, eq=False)
class MappingProblem:
    """Places are numbered as nodes of the layout would be, were each node at its own place. Every row and kind has one
    entry at least.

    slowdown: (nodes, nodes), at least 1, 0 on the diagonal. hops: [hop][pipeline] -> pairs that talk in it, one at
    least, be it of a place and itself. chains_s: (chains, hops), seconds that a chain of waits spends in each hop of
    its pipeline. rings: by what they exchange, each ring with its seconds and the pairs that neighbours in it make; of
    each kind the slowest counts.
    """

    slowdown: Floats
    hops: Sequence[Sequence[Pairs]]
    chains_s: Floats
    rings: Sequence[Sequence[tuple[float, Pairs]]]

    @property
    def nodes(self) -> int:
        """How many there are; places beyond those that a layout uses are for nodes left idle."""
        return len(self.slowdown)

    @cached_property
    def places(self) -> list[int]:
        """Those whose node matters."""
        pairs = [pair for hop in self.hops for row in hop for pair in row]
        pairs += [pair for kind in self.rings for _, row in kind for pair in row]
        return sorted({place for a, b in pairs if a != b for place in (a, b)})

    @property
    def identity(self) -> Order:
        """Every node at its own place."""
        return tuple(range(self.nodes))

    def cost_s(self, nodes: Sequence[int] | NDArray[np.int64]) -> float:
        """Seconds of the slowest chain and the slowest ring of each kind, with these nodes at the places."""
        order, total = np.asarray(nodes), 0.0
        sender, receiver, starts = self._hop_pairs
        if len(sender):
            each = np.maximum.reduceat(self.slowdown[order[sender], order[receiver]], starts)
            total += float((self.chains_s @ each.reshape(len(self.hops), -1)).max())
        sender, receiver, starts = self._ring_pairs
        if len(sender):
            slowest = np.maximum.reduceat(self.slowdown[order[sender], order[receiver]], starts)
            total += float(np.maximum.reduceat(self._ring_s * slowest, self._kinds).sum())
        return total

    @cached_property
    def floor_s(self) -> float:
        """What no order undercuts: as if every pair of places had the fastest pair of nodes."""
        fastest = self._off_diagonal.min() if self.nodes > 1 else 1.0
        alike = np.where(np.eye(self.nodes, dtype=bool), 0.0, fastest)
        return MappingProblem(alike, self.hops, self.chains_s, self.rings).cost_s(self.identity)

    @property
    def _off_diagonal(self) -> Floats:
        return self.slowdown[~np.eye(self.nodes, dtype=bool)]

    @cached_property
    def _hop_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return _flat([row for hop in self.hops for row in hop])

    @cached_property
    def _ring_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return _flat([row for kind in self.rings for _, row in kind])

    @cached_property
    def _ring_s(self) -> Floats:
        return np.array([seconds for kind in self.rings for seconds, _ in kind])

    @cached_property
    def _kinds(self) -> NDArray[np.int64]:
        """Where each kind of ring begins."""
        return _starts([len(kind) for kind in self.rings])


def _flat(rows: Sequence[Pairs]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Senders, receivers, and where each row begins."""
    pairs = np.array([pair for row in rows for pair in row], np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], _starts([len(row) for row in rows])


def _starts(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *sizes])[:-1].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Mapping:
    """An order, and how good it is by the closed form."""

    order: Order
    cost_s: float
    identity_s: float  # of every node at its own place
    by: str  # who found it
    optimal: bool  # is it proved that none costs less?

    @property
    def gain_fraction(self) -> float:
        """Of the identity's seconds, what is saved."""
        return 1.0 - self.cost_s / self.identity_s if self.identity_s else 0.0


ROUNDING = 1e-12  # relative: costs that differ by no more are the same


def as_found(problem: MappingProblem, order: Sequence[int], by: str, *, optimal: bool = False) -> Mapping:
    """The mapping that an order is; one that costs what no order undercuts is optimal without more proof."""
    cost_s, identity_s = problem.cost_s(order), problem.cost_s(problem.identity)
    floor = cost_s <= problem.floor_s * (1 + ROUNDING)
    return Mapping(tuple(int(node) for node in order), cost_s, identity_s, by, optimal or floor)


def not_an_order(nodes: Sequence[int], count: int) -> str:
    """What is said of nodes that are no order of so many."""
    shown = list(nodes)
    return f"training.node_mapping: nodes = {shown} is no order of {count} nodes; name each of 0 to {count - 1} once"
