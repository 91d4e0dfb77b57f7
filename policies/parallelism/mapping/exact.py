"""The best order of nodes, proved: branch and bound over places filled one after another.

A partly filled order costs at least what it would if every pair with an open place had the fastest pair of nodes.
Annealing finds the order that branches must undercut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from policies.parallelism.mapping.annealing import Annealing
from policies.parallelism.mapping.problem import ROUNDING, Mapping, MappingProblem, as_found


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """Branch and bound, until every order is judged or so many parts of orders have been looked at."""

    most_looks: Annotated[int, Field(ge=1, le=1_000_000_000)] = 200_000
    iterations: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000  # of annealing, before

    def solve(self, problem: MappingProblem, seed: int) -> Mapping:
        """The best order; `optimal` says whether the search came to its end."""
        start = Annealing(iterations=self.iterations).solve(problem, seed)
        if start.optimal:
            return as_found(problem, start.order, "exact", optimal=True)
        search = _Search(problem, start, self.most_looks)
        search.fill(0)
        return as_found(problem, search.best, "exact", optimal=search.looks < self.most_looks)


@dataclass
class _Search:
    """Depth first, the next node that makes least cost first."""

    problem: MappingProblem
    start: Mapping
    most_looks: int
    looks: int = 0
    best: tuple[int, ...] = field(init=False)
    best_s: float = field(init=False)
    open_order: NDArray[np.int64] = field(init=False)
    wide: MappingProblem = field(init=False)

    def __post_init__(self) -> None:
        """A node more than there are stands for all open places: as near to each as the nearest pair is."""
        nodes = self.problem.nodes
        slowdown = np.zeros((2 * nodes, 2 * nodes))
        off = ~np.eye(nodes, dtype=bool)
        slowdown[:, :] = self.problem.slowdown[off].min()
        slowdown[:nodes, :nodes] = self.problem.slowdown
        np.fill_diagonal(slowdown, 0.0)
        self.wide = MappingProblem(slowdown, self.problem.hops, self.problem.chains_s, self.problem.rings)
        self.best, self.best_s = self.start.order, self.start.cost_s
        self.open_order = np.arange(nodes) + nodes  # the open node of each place

    def fill(self, depth: int) -> None:
        """All orders that agree on the first `depth` places that matter."""
        places, nodes = self.problem.places, self.problem.nodes
        if depth == len(places):
            self._take()
            return
        place = places[depth]
        used = {int(node) for node in self.open_order if node < nodes}
        choices = []
        for node in range(nodes):
            if node in used:
                continue
            if self.looks >= self.most_looks:
                self.open_order[place] = nodes + place
                return
            self.looks += 1
            self.open_order[place] = node
            choices.append((self.wide.cost_s(self.open_order), node))
        for bound_s, node in sorted(choices):
            if bound_s >= self.best_s * (1 - ROUNDING):
                break
            self.open_order[place] = node
            self.fill(depth + 1)
        self.open_order[place] = nodes + place

    def _take(self) -> None:
        nodes = self.problem.nodes
        order = [int(node) for node in self.open_order]
        idle = iter([node for node in range(nodes) if node not in order])
        order = [node if node < nodes else next(idle) for node in order]
        cost_s = self.problem.cost_s(order)
        if cost_s < self.best_s:
            self.best, self.best_s = tuple(order), cost_s
