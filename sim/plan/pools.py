"""Proof by simulation that a fleet keeps the SLO: each pool of each hour with its share of the requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.plan.capacity import requests_at
from sim.plan.day_demand import DayDemand
from sim.plan.deployments import STOP_AT, Layout
from sim.plan.fleet import Fleet
from sim.plan.judge import Verdict, judge
from sim.plan.rate_search import Note
from sim.scenario import Scenario
from workloads.randomness import stream
from workloads.request import RequestTable

LEAST_REQUESTS = 2  # a pool's share of an hour that is worth a simulation
Pools = tuple[tuple[str, int, float], ...]  # name, rungs, share of the capacity


@dataclass(frozen=True, slots=True)
class PoolHour:
    """A pool in hours of one rate, simulated."""

    node: str
    rungs: int
    rate_per_s: float
    hours: tuple[int, ...]
    verdict: Verdict | None  # None: its share was too small to simulate

    @property
    def met(self) -> bool:
        """Did it keep the SLO?"""
        return self.verdict is None or self.verdict.met


class Verifier:
    """Simulates the pools of a fleet hour by hour, distinct ones once."""

    def __init__(self, scenario: Scenario, demand: DayDemand, layouts: dict[str, Layout], note: Note) -> None:
        self._scenario, self._demand, self._layouts, self._note = scenario, demand, layouts, note
        self._known: dict[tuple[float, Pools], list[PoolHour]] = {}
        self.simulations = 0

    def verify(self, fleet: Fleet) -> list[PoolHour]:
        """Every pool of every distinct hour."""
        groups: dict[tuple[float, Pools], list[int]] = {}
        for hour, rate in enumerate(self._demand.rates_per_s):
            pools = tuple(
                (one.name, row[hour], one.capacity_per_s * row[hour])
                for one, row in zip(fleet.types, fleet.running, strict=True)
                if row[hour]
            )
            groups.setdefault((rate, pools), []).append(hour)
        found: list[PoolHour] = []
        for number, (key, hours) in enumerate(groups.items()):
            self._note(f"verifying hour {number + 1} of {len(groups)} distinct ones")
            if key not in self._known:
                self._known[key] = self._simulate(*key)
            found += [
                PoolHour(pool.node, pool.rungs, pool.rate_per_s, tuple(hours), pool.verdict)
                for pool in self._known[key]
            ]
        return found

    def _simulate(self, rate_per_s: float, pools: Pools) -> list[PoolHour]:
        if not rate_per_s > 0.0:
            return [PoolHour(name, rungs, 0.0, (), None) for name, rungs, _ in pools]
        requests = requests_at(self._scenario.workload, self._scenario.seed, rate_per_s)
        shares = np.array([capacity for *_, capacity in pools])
        result = []
        for (name, rungs, _), part in zip(pools, split(requests, shares, self._scenario.seed), strict=True):
            rate = rate_per_s * (0.0 if part is None else len(part) / len(requests))
            verdict = None
            if part is not None:
                verdict = judge(self._layouts[name].scenario(self._scenario, rungs), part, stop_at=STOP_AT)
                self.simulations += 1
            result.append(PoolHour(name, rungs, rate, (), verdict))
        return result


def split(
    requests: RequestTable, shares: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int
) -> list[RequestTable | None]:
    """Requests drawn to pools with chances in proportion to their shares: a part each, None where it is too small."""
    if len(shares) == 1:
        return [requests]
    edges = np.cumsum(shares / shares.sum())
    pool = np.searchsorted(edges[:-1], stream(seed, "plan/pools").random(len(requests)), side="right")
    parts = [np.flatnonzero(pool == number) for number in range(len(shares))]
    return [requests.take(part) if len(part) >= LEAST_REQUESTS else None for part in parts]
