"""How many nodes of each type run in each hour: an integer programme, solved by HiGHS through PuLP.

    least     sum over hours of price x nodes, and of starts x (price x boot time + a fee)
    so that   in each hour the capacity that runs is at least the demand, and its GPUs are no more than are allowed,
              starts are at least what one hour runs more than the hour before (the hours repeat themselves),
              no type runs more nodes than there are of it.

Nodes reserved for all hours cost their ratio of the price and never start. The relaxation with fractions of nodes
is a proved lower bound of the cost, and so is the solver's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hardware_models.errors import FleetcastError

TIME_LIMIT_S = 60.0
PROVED, FEASIBLE, INFEASIBLE = 1, 2, -1  # PuLP's sol_status
GAP = 1e-6  # between the solver's bounds at which it may stop


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """What can be rented."""

    name: str
    capacity_per_s: float  # requests/s of a node within the SLO
    usd_per_h: float
    limit: int | None = None  # nodes there are
    gpus: int = 0  # of a node
    by_hour: tuple[float, ...] | None = None  # requests/s of a node in each hour, where hours differ

    def at(self, hour: int) -> float:
        """Requests/s of a node in an hour."""
        return self.capacity_per_s if self.by_hour is None else self.by_hour[hour]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How nodes are rented."""

    boot_h: float = 0.0  # paid before a started node serves
    start_usd: float = 0.0  # of each start, besides
    reserved_ratio: float | None = None  # price of a node reserved for all hours over on demand; None: not offered

    def __post_init__(self) -> None:
        if not 0 <= self.boot_h <= 1:
            raise FleetcastError(f"--boot-minutes {self.boot_h * 60:g}: give 0 to 60, since nodes start by the hour")
        if not 0 <= self.start_usd < 1e9:
            raise FleetcastError(f"--start-usd {self.start_usd:g}: give USD of at least 0")
        if self.reserved_ratio is not None and not 0 < self.reserved_ratio <= 1:
            raise FleetcastError(f"--reserved {self.reserved_ratio:g}: give a ratio above 0, at most 1")


@dataclass(frozen=True, slots=True)
class Fleet:
    """A solution: nodes of each type in each hour, reserved ones included."""

    types: tuple[NodeType, ...]
    running: tuple[tuple[int, ...], ...]  # (types, hours)
    reserved: tuple[int, ...]
    starts: int
    usd: float  # over the hours
    bound_usd: float  # no fleet of these types is cheaper
    relaxed_usd: float  # with fractions of nodes
    proved: bool  # is it the optimum?

    @property
    def gap(self) -> float:
        """Between the cost and its proved bound, as a share."""
        return max(0.0, 1.0 - self.bound_usd / self.usd) if self.usd else 0.0


def cheapest_fleet(
    types: Sequence[NodeType],
    demand_per_s: Sequence[float],
    terms: Terms,
    *,
    static: bool = False,
    max_gpus: int | None = None,
) -> Fleet | None:
    """The cheapest fleet, or None where the limits of the types, or `max_gpus` in an hour, allow none.

    static: the same nodes in all hours. Raises FleetcastError where the solver is not installed or gives up.
    """
    useful = tuple(kind for kind in types if kind.capacity_per_s > 0)
    if not useful:
        return None
    relaxed = _Programme(useful, demand_per_s, terms, static=static, whole=False, max_gpus=max_gpus)
    if relaxed.solve() == INFEASIBLE:
        return None
    programme = _Programme(useful, demand_per_s, terms, static=static, whole=True, max_gpus=max_gpus)
    status = programme.solve()
    return None if status == INFEASIBLE else programme.fleet(relaxed.cost, proved=status == PROVED)


def solver() -> Any:
    """HiGHS as PuLP calls it; raises FleetcastError with how to install it."""
    import pulp

    found = pulp.HiGHS(msg=False, timeLimit=TIME_LIMIT_S, gapRel=GAP, threads=1)
    if not found.available():
        raise FleetcastError("plan --day: needs the solver HiGHS; install it with: pip install highspy")
    return found


class _Programme:
    """The model and its variables."""

    def __init__(
        self,
        types: Sequence[NodeType],
        demand_per_s: Sequence[float],
        terms: Terms,
        *,
        static: bool,
        whole: bool,
        max_gpus: int | None,
    ) -> None:
        import pulp

        self._types, self._hours, self._terms = types, range(len(demand_per_s)), terms
        kind = pulp.LpInteger if whole else pulp.LpContinuous
        self._model = pulp.LpProblem("fleet", pulp.LpMinimize)

        def variable(name: str, most: int | None, category: str = kind) -> Any:
            return self._model.add_variable(name, 0, most, cat=category)

        offered = terms.reserved_ratio is not None
        self._reserved = [variable(f"reserved_{i}", one.limit if offered else 0) for i, one in enumerate(types)]
        self._running = [[variable(f"running_{i}_{h}", one.limit) for h in self._hours] for i, one in enumerate(types)]
        self._starts = [
            [variable(f"starts_{i}_{h}", None, pulp.LpContinuous) for h in self._hours] for i, _ in enumerate(types)
        ]
        self._model += self._cost()
        self._constrain(demand_per_s, max_gpus, static=static)

    def _cost(self) -> Any:
        import pulp

        terms = self._terms
        parts = []
        for i, one in enumerate(self._types):
            started = one.usd_per_h * terms.boot_h + terms.start_usd
            for h in self._hours:
                parts += [one.usd_per_h * self._running[i][h], started * self._starts[i][h]]
            parts.append(one.usd_per_h * (terms.reserved_ratio or 0.0) * len(self._hours) * self._reserved[i])
        return pulp.lpSum(parts)

    def _constrain(self, demand_per_s: Sequence[float], max_gpus: int | None, *, static: bool) -> None:
        import pulp

        for h in self._hours:
            nodes = [self._running[i][h] + self._reserved[i] for i, _ in enumerate(self._types)]
            capacity = [one.at(h) * count for one, count in zip(self._types, nodes, strict=True)]
            self._model += pulp.lpSum(capacity) >= demand_per_s[h]
            if max_gpus is not None:
                gpus = [one.gpus * count for one, count in zip(self._types, nodes, strict=True)]
                self._model += pulp.lpSum(gpus) <= max_gpus
        for i, one in enumerate(self._types):
            for h in self._hours:
                before = self._running[i][h - 1]  # the hours repeat: the first hour follows the last
                self._model += self._starts[i][h] >= self._running[i][h] - before
                if static and h:
                    self._model += self._running[i][h] == before
                if one.limit is not None:
                    self._model += self._running[i][h] + self._reserved[i] <= one.limit

    def solve(self) -> int:
        """PuLP's sol_status: PROVED, FEASIBLE or INFEASIBLE; raises FleetcastError where the time was too short."""
        self._model.solve(solver())
        status = int(self._model.sol_status)
        if status not in (PROVED, FEASIBLE, INFEASIBLE):
            raise FleetcastError(
                f"plan --day: the solver found no fleet within {TIME_LIMIT_S:g} s; give fewer --nodes or hours"
            )
        return status

    @property
    def cost(self) -> float:
        """USD over the hours."""
        return float(self._model.objective.value())

    def fleet(self, relaxed_usd: float, *, proved: bool) -> Fleet:
        """The solution; call it after `solve`."""
        reserved = tuple(round(variable.value()) for variable in self._reserved)
        running = tuple(
            tuple(round(variable.value()) + held for variable in row)
            for row, held in zip(self._running, reserved, strict=True)
        )
        starts = sum(
            max(0, row[h] - row[h - 1]) for row in running for h in self._hours
        )  # reserved nodes do not change
        dual = float(self._model.solverModel.getInfo().mip_dual_bound)
        bound = self.cost if proved else max(relaxed_usd, dual if math.isfinite(dual) else relaxed_usd)
        return Fleet(tuple(self._types), running, reserved, starts, self.cost, bound, relaxed_usd, proved)
