"""Simulated annealing over the order of nodes, as Pipette does it (arXiv 2405.18093 and its code).

A move swaps two nodes, turns a stretch round (two-opt), takes one node elsewhere (insertion), or a stretch, as it is
(route insertion) or turned round (reversed insertion). A worse order is taken with probability exp(-rise /
temperature), the rise relative to the identity's cost; the temperature falls from 1 by a factor of 0.999 a move.
Pipette stops after seconds; here moves are counted, so that the same seed finds the same order anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from policies.parallelism.mapping.problem import ROUNDING, Mapping, MappingProblem, as_found
from workloads.randomness import stream

START_TEMPERATURE = 1.0
COOLING = 0.999

Line = list[int]
Move = Callable[[Line, int, int, int], Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annealing:
    """Pipette's simulated annealing."""

    iterations: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000

    def solve(self, problem: MappingProblem, seed: int) -> Mapping:
        """The best order seen; never worse than the identity."""
        order = best = list(problem.identity)
        cost = best_cost = problem.cost_s(order)
        scale = cost or 1.0
        draws = stream(seed, "node mapping").random((self.iterations, 5)) if problem.places else np.empty((0, 5))
        temperature = START_TEMPERATURE
        for draw in draws:
            if best_cost <= problem.floor_s * (1 + ROUNDING):
                break
            candidate = _moved(order, draw)
            found = problem.cost_s(candidate)
            if found <= cost or draw[4] < np.exp((cost - found) / scale / temperature):
                order, cost = candidate, found
                if cost < best_cost:
                    best, best_cost = order, cost
            temperature *= COOLING
        return as_found(problem, best, "annealing")


def _moved(order: Line, draw: NDArray[np.float64]) -> Line:
    """Another order, by one of the moves at places that are drawn."""
    size = len(order)
    move = MOVES[int(draw[0] * len(MOVES))]
    first, last = sorted((int(draw[1] * size), int(draw[2] * size)))
    return move(order, first, last, int(draw[3] * size))


def swap(order: Line, first: int, last: int, _to: int) -> Line:
    """Two nodes change places."""
    found = order.copy()
    found[first], found[last] = found[last], found[first]
    return found


def two_opt(order: Line, first: int, last: int, _to: int) -> Line:
    """A stretch is turned round where it is."""
    return order[:first] + order[first : last + 1][::-1] + order[last + 1 :]


def insertion(order: Line, first: int, _last: int, to: int) -> Line:
    """One node goes elsewhere."""
    return _put(order, first, first, to, turned=False)


def route_insertion(order: Line, first: int, last: int, to: int) -> Line:
    """A stretch goes elsewhere."""
    return _put(order, first, last, to, turned=False)


def reversed_insertion(order: Line, first: int, last: int, to: int) -> Line:
    """A stretch goes elsewhere, turned round."""
    return _put(order, first, last, to, turned=True)


def _put(order: Line, first: int, last: int, to: int, *, turned: bool) -> Line:
    stretch, rest = order[first : last + 1], order[:first] + order[last + 1 :]
    to = min(to, len(rest))
    return rest[:to] + (stretch[::-1] if turned else stretch) + rest[to:]


MOVES: tuple[Move, ...] = (swap, two_opt, insertion, route_insertion, reversed_insertion)
