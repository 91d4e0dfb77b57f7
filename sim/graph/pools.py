"""Memory pools while a graph runs: who takes, who waits, and in which order.

Those who wait for a pool wait in the order in which they asked, and nobody passes them. One who asks for several pools
is in line at each, and takes all at once or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from hardware_models.errors import DoesNotFitError, FleetcastError
from policies.task_graph import TaskGraph
from sim.graph.checks import pool_name, task_name
from sim.graph.memory import ROUNDING

Needs = tuple[tuple[int, float], ...]  # (pool, bytes) of each pool


class Pools:
    """Memory of all devices; a claimant is whoever waits, known by a number."""

    def __init__(self, graph: TaskGraph) -> None:
        self._graph = graph
        self._limit = [pool.budget_bytes * (1 + ROUNDING) for pool in graph.pools]
        self.used = [0.0] * len(graph.pools)
        self._most = [0.0] * len(graph.pools)  # ever used
        self.takes, self.gives = _needs(graph)
        self._lines: list[dict[int, None]] = [{} for _ in graph.pools]  # claimants, longest waiting first
        self._claims: dict[int, set[int]] = {}  # claimant -> pools in whose lines it stands
        for task, needs in self.takes.items():
            for pool, size in needs:
                if size > self._limit[pool]:
                    raise DoesNotFitError(
                        f"{task_name(graph, task)} takes {size:,.0f} bytes of {pool_name(graph, pool)}, whose budget "
                        f"is {graph.pools[pool].budget_bytes:,.0f}; give it less or raise the budget"
                    )

    def take(self, task: int, claimant: int) -> bool:
        """Take a task's memory if there is room and nobody waits longer."""
        needs = self.takes.get(task, ())
        for pool, size in needs:
            line = self._lines[pool]
            if not self.has_room(pool, size) or (line and next(iter(line)) != claimant):
                return False
        for pool, size in needs:
            used = self.used[pool] = self.used[pool] + size
            self._most[pool] = max(used, self._most[pool])
        return True

    def has_room(self, pool: int, size_bytes: float) -> bool:
        """Whether a pool's budget leaves so much."""
        return self.used[pool] + size_bytes <= self._limit[pool]

    def waits(self, claimant: int) -> bool:
        """Whether a claimant stands in a line."""
        return claimant in self._claims

    def claim(self, claimant: int, tasks: Iterable[int]) -> None:
        """Stand in line for the pools of tasks, behind those who do already."""
        mine = self._claims.setdefault(claimant, set())
        for task in tasks:
            for pool, _ in self.takes.get(task, ()):
                mine.add(pool)
                self._lines[pool].setdefault(claimant)

    def withdraw(self, claimant: int) -> list[int]:
        """Leave all lines; returns who is first there now and should try again."""
        pools = sorted(self._claims.pop(claimant, ()))
        for pool in pools:
            del self._lines[pool][claimant]
        return self._first(pools)

    def give(self, task: int) -> list[int]:
        """Take back what a task gives; returns who should try again.

        Raises FleetcastError where more is given than is held.
        """
        for pool, size in self.gives[task]:
            left = self.used[pool] - size
            if left < 0:
                if left < -ROUNDING * max(1.0, self._most[pool]):
                    raise FleetcastError(
                        f"{task_name(self._graph, task)} gives back {size:,.0f} bytes of {pool_name(self._graph, pool)}"
                        f", which holds {self.used[pool]:,.0f}; acquire them before"
                    )
                left = 0.0
            self.used[pool] = left
        return self._first([pool for pool, _ in self.gives[task]]) if self._claims else []

    def _first(self, pools: list[int]) -> list[int]:
        return list(dict.fromkeys(next(iter(self._lines[pool])) for pool in pools if self._lines[pool]))


def _needs(graph: TaskGraph) -> tuple[dict[int, Needs], dict[int, Needs]]:
    """Task -> bytes of each pool that it takes, and that it gives back."""
    takes: dict[int, dict[int, float]] = {}
    gives: dict[int, dict[int, float]] = {}
    for change in graph.memory:
        size, pool = change.change_bytes, change.pool
        if size:
            of_task = (takes if size > 0 else gives).setdefault(change.task, {})
            of_task[pool] = of_task.get(pool, 0.0) + abs(size)
    return _sorted(takes), _sorted(gives)


def _sorted(sums: dict[int, dict[int, float]]) -> dict[int, Needs]:
    return {
        task: tuple(sorted(of_task.items()) if len(of_task) > 1 else of_task.items()) for task, of_task in sums.items()
    }
