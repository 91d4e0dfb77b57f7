"""How many nodes of each type run in each hour of a day: an integer programme, solved by HiGHS through PuLP.

    least     sum over hours of price x nodes, and of starts x (price x boot time + a fee)
    so that   in each hour the capacity that runs is at least the demand,
              starts are at least what one hour runs more than the hour before (the day repeats itself),
              no type runs more nodes than there are of it.

Nodes reserved for the whole day cost their ratio of the price and never start. The relaxation with fractions of nodes
is a proved lower bound of the cost, and so is the solver's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hardware_models.errors import FleetcastError

TIME_LIMIT_S = 60.0
PROVED, FEASIBLE = 1, 2  # PuLP's sol_status
GAP = 1e-6  # between the solver's bounds at which it may stop


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """What can be rented."""

    name: str
    capacity_per_s: float  # requests/s of a node within the SLO
    usd_per_h: float
    limit: int | None = None  # nodes there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How nodes are rented."""

    boot_h: float = 0.0  # paid before a started node serves
    start_usd: float = 0.0  # of each start, besides
    reserved_ratio: float | None = None  # price of a node reserved for the whole day over on demand; None: not offered

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
    usd_per_day: float
    bound_usd_per_day: float  # no fleet of these types is cheaper
    relaxed_usd_per_day: float  # with fractions of nodes
    proved: bool  # is it the optimum?

    @property
    def gap(self) -> float:
        """Between the cost and its proved bound, as a share."""
        return max(0.0, 1.0 - self.bound_usd_per_day / self.usd_per_day) if self.usd_per_day else 0.0


def cheapest_fleet(
    types: Sequence[NodeType], demand_per_s: Sequence[float], terms: Terms, *, static: bool = False
) -> Fleet | None:
    """The cheapest fleet, or None where the limits of the types allow none.

    static: the same nodes all day. Raises FleetcastError where the solver is not installed or gives up.
    """
    useful = tuple(kind for kind in types if kind.capacity_per_s > 0)
    if not _enough(useful, max(demand_per_s)):
        return None
    relaxed = _Programme(useful, demand_per_s, terms, static=static, whole=False)
    relaxed.solve()
    programme = _Programme(useful, demand_per_s, terms, static=static, whole=True)
    proved = programme.solve() == PROVED
    return programme.fleet(relaxed.cost, proved=proved)


def _enough(types: Sequence[NodeType], peak_per_s: float) -> bool:
    most = sum(math.inf if kind.limit is None else kind.limit * kind.capacity_per_s for kind in types)
    return most >= peak_per_s


def solver() -> Any:
    """HiGHS as PuLP calls it; raises FleetcastError with how to install it."""
    import pulp

    found = pulp.HiGHS(msg=False, timeLimit=TIME_LIMIT_S, gapRel=GAP, threads=1)
    if not found.available():
        raise FleetcastError("plan --day: needs the solver HiGHS; install it with: pip install 'fleetcast[solver]'")
    return found


class _Programme:
    """The model and its variables."""

    def __init__(
        self, types: Sequence[NodeType], demand_per_s: Sequence[float], terms: Terms, *, static: bool, whole: bool
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
        self._constrain(demand_per_s, static=static)

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

    def _constrain(self, demand_per_s: Sequence[float], *, static: bool) -> None:
        import pulp

        for h in self._hours:
            capacity = [
                one.capacity_per_s * (self._running[i][h] + self._reserved[i]) for i, one in enumerate(self._types)
            ]
            self._model += pulp.lpSum(capacity) >= demand_per_s[h]
        for i, one in enumerate(self._types):
            for h in self._hours:
                before = self._running[i][h - 1]  # the day repeats: the first hour follows the last
                self._model += self._starts[i][h] >= self._running[i][h] - before
                if static and h:
                    self._model += self._running[i][h] == before
                if one.limit is not None:
                    self._model += self._running[i][h] + self._reserved[i] <= one.limit

    def solve(self) -> int:
        """PuLP's sol_status: PROVED or FEASIBLE; raises FleetcastError where there is no solution."""
        self._model.solve(solver())
        status = int(self._model.sol_status)
        if status not in (PROVED, FEASIBLE):
            raise FleetcastError(
                f"plan --day: the solver found no fleet within {TIME_LIMIT_S:g} s; give fewer --nodes or hours"
            )
        return status

    @property
    def cost(self) -> float:
        """USD a day."""
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
