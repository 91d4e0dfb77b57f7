"""How much memory each pool holds over an executed graph, and who holds it at the peak.

Bytes are taken at a task's start and given back at its end. What is held for no time is not seen: a profile has one
value an instant, after everything that happens at it, so that releases come before acquisitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models.errors import FleetcastError
from policies.task_graph import TaskGraph
from sim.graph.checks import pool_name
from sim.graph.times import Times

ROUNDING = 1e-9  # relative: what sums of fractions of bytes may be off by

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Peak:
    """The first moment at which a pool holds the most."""

    t_s: float
    used_bytes: float
    owners: dict[str, float]  # owner -> bytes then, largest first


class MemoryLedger:
    """The memory changes of a graph as columns, sorted by pool, for many times of one graph."""

    def __init__(self, graph: TaskGraph, joined: Sequence[int] | None = None) -> None:
        """joined: for each pool of the graph, the one that counts its bytes; absent: itself."""
        rows = [(change.task, change.pool, change.owner, change.change_bytes) for change in graph.memory]
        tasks, pools, owners, changes = zip(*rows, strict=True) if rows else ((), (), (), ())
        self.graph = graph
        self.owners = sorted(set(owners))
        code = {name: number for number, name in enumerate(self.owners)}
        pool = np.array(pools, dtype=np.int64)
        if joined is not None:
            pool = np.array(joined, dtype=np.int64)[pool]
        order = np.argsort(pool, kind="stable")
        self.task = np.array(tasks, dtype=np.int64)[order]
        self.change = np.array(changes, dtype=np.float64)[order]
        self.owner = np.array([code[name] for name in owners], dtype=np.int64)[order]
        self._bounds = np.searchsorted(pool[order], np.arange(len(graph.pools) + 1))

    def rows(self, pool: int) -> slice:
        """Where the changes of a pool are."""
        if not 0 <= pool < len(self.graph.pools):
            raise FleetcastError(f"pool {pool} is none of the graph's {len(self.graph.pools)}")
        return slice(int(self._bounds[pool]), int(self._bounds[pool + 1]))

    def usage(self, times: Times) -> MemoryUsage:
        """What an execution made of them."""
        return MemoryUsage(self, times)


class MemoryUsage:
    """What each pool of a graph holds over one execution."""

    def __init__(self, ledger: MemoryLedger, times: Times) -> None:
        self._ledger = ledger
        self._start_s = np.asarray(times.start_s, dtype=np.float64)[ledger.task]
        self._end_s = np.asarray(times.end_s, dtype=np.float64)[ledger.task]
        self._moment_s = np.where(ledger.change > 0, self._start_s, self._end_s)

    def profile(self, pool: int) -> tuple[Floats, Floats]:
        """Instants at which a pool changes, and the bytes it holds from each on: both (instants,).

        Raises FleetcastError where more is given back than was taken.
        """
        rows = self._ledger.rows(pool)
        change = self._ledger.change[rows]
        t_s, used = _steps(self._moment_s[rows], change)
        if len(used) and used.min() < -ROUNDING * max(1.0, np.abs(change).sum()):
            at = t_s[int(used.argmin())]
            raise FleetcastError(
                f"{pool_name(self._ledger.graph, pool)}: by {at} s {-used.min():,.0f} bytes more are given back than "
                "were taken; acquire them before"
            )
        return t_s, used

    def peak(self, pool: int) -> Peak:
        """The first moment with the most bytes, and whose they are; a pool that nothing uses peaks at 0 s with none."""
        t_s, used = self.profile(pool)
        if not len(used) or used.max() <= 0:
            return Peak(0.0, 0.0, {})
        at = int(used.argmax())
        rows, names = self._ledger.rows(pool), self._ledger.owners
        held = self._moment_s[rows] <= t_s[at]
        size = np.bincount(self._ledger.owner[rows][held], self._ledger.change[rows][held], minlength=len(names))
        least = ROUNDING * used[at]
        holders = sorted((int(code) for code in np.flatnonzero(size > least)), key=lambda code: (-size[code], code))
        return Peak(float(t_s[at]), float(used[at]), {names[code]: float(size[code]) for code in holders})

    def by_owner(self, pool: int) -> Iterator[tuple[str, Floats, Floats]]:
        """The profile of each owner in a pool: its name, instants, and bytes from each on."""
        rows = self._ledger.rows(pool)
        moments, changes, owners = self._moment_s[rows], self._ledger.change[rows], self._ledger.owner[rows]
        for code in np.unique(owners):
            mine = owners == code
            yield self._ledger.owners[code], *_steps(moments[mine], changes[mine])

    def most_asked(self, pool: int) -> float:
        """The most bytes that a clock could be asked for at once if nobody had to wait.

        Unlike the peak it counts what tasks of no duration take and give back within an instant, all at once: where it
        is within the budget, no order within any instant makes a task wait past it.
        """
        rows = self._ledger.rows(pool)
        if rows.start == rows.stop:
            return 0.0
        change = self._ledger.change[rows]
        at_once = np.where(self._start_s[rows] < self._end_s[rows], 0, 2)
        turn = np.where(change > 0, 1, at_once)  # given back, taken, given back at once
        return max(0.0, float(np.cumsum(change[np.lexsort((turn, self._moment_s[rows]))]).max()))


def memory_profile(graph: TaskGraph, times: Times, pool: int) -> tuple[Floats, Floats]:
    """`MemoryUsage.profile` of one pool; for many pools keep the usage."""
    return MemoryLedger(graph).usage(times).profile(pool)


def peak(graph: TaskGraph, times: Times, pool: int) -> Peak:
    """`MemoryUsage.peak` of one pool; for many pools keep the usage."""
    return MemoryLedger(graph).usage(times).peak(pool)


def _steps(moments: Floats, changes: Floats) -> tuple[Floats, Floats]:
    """Distinct instants in order, and the sum of all changes up to each."""
    order = np.argsort(moments, kind="stable")
    moments = moments[order]
    last = np.flatnonzero(np.append(moments[1:] != moments[:-1], True)) if len(moments) else np.zeros(0, dtype=np.int64)
    return moments[last], np.cumsum(changes[order])[last]
