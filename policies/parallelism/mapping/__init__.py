"""Which node of a cluster with unequal links stands where in a layout: the orders that are known, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hardware_models.errors import ImpossibleError
from policies.parallelism.mapping.annealing import Annealing
from policies.parallelism.mapping.exact import Exact
from policies.parallelism.mapping.problem import Mapping, MappingProblem, as_found, not_an_order

__all__ = [
    "NODE_MAPPINGS",
    "Annealing",
    "Best",
    "Exact",
    "GivenOrder",
    "Identity",
    "Mapping",
    "MappingProblem",
    "NodeMapping",
]

EXACT_NODES = 8  # at most: of more, few proofs end in time


class NodeMapping(Protocol):
    """Says which node stands where."""

    def solve(self, problem: MappingProblem, seed: int) -> Mapping:
        """The order of nodes, with what is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Every node at its own place, as launchers number them."""

    def solve(self, problem: MappingProblem, seed: int) -> Mapping:
        """The same whatever it costs."""
        return as_found(problem, problem.identity, "identity")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenOrder:
    """An order that somebody has found."""

    nodes: tuple[int, ...]  # the node at each place

    def solve(self, problem: MappingProblem, seed: int) -> Mapping:
        """That order; raises ImpossibleError for one that is none."""
        if sorted(self.nodes) != list(range(problem.nodes)):
            raise ImpossibleError(not_an_order(self.nodes, problem.nodes))
        return as_found(problem, self.nodes, "order")


NODE_MAPPINGS: dict[str, type[NodeMapping]] = {
    "identity": Identity,
    "annealing": Annealing,
    "exact": Exact,
    "order": GivenOrder,
}


@dataclass(frozen=True, slots=True)
class Best:
    """What a search takes that may choose."""

    def solve(self, problem: MappingProblem, seed: int) -> Mapping:
        """The exact order where it pays, else the one that annealing finds."""
        method: NodeMapping = Exact() if len(problem.places) <= EXACT_NODES else Annealing()
        return method.solve(problem, seed)
