"""Proof by simulation that a fleet keeps the SLO: each pool of each hour with its share of the requests."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hardware_models.errors import FleetcastError
from sim.plan.capacity import requests_at
from sim.plan.day_demand import DayDemand
from sim.plan.deployments import STOP_AT, Layout
from sim.plan.fleet import Fleet
from sim.plan.judge import Verdict, judge
from sim.plan.rate_search import Note
from sim.scenario import Scenario
from workloads.randomness import stream
from workloads.request import RequestTable
from workloads.traces.catalog import catalog_names

LEAST_REQUESTS = 2  # a pool's share of an hour; less goes to the pool that has most
FEW = 20.0  # requests, about, that the sample of a quiet hour has
LONGER = 4.0  # by which the sample of an hour grows that had no requests
TRIES = 6
Pools = tuple[tuple[str, int, float], ...]  # name, rungs, share of the capacity


@dataclass(frozen=True, slots=True)
class PoolHour:
    """A pool in hours of one rate, simulated."""

    node: str
    rungs: int
    rate_per_s: float
    hours: tuple[int, ...]
    verdict: Verdict | None  # None: no requests were its share
    simulated_s: float = 0.0  # of arrivals

    @property
    def met(self) -> bool:
        """Did it keep the SLO?"""
        return self.verdict is None or self.verdict.met


class Verifier:
    """Simulates the pools of a fleet hour by hour, distinct ones once."""

    def __init__(
        self, scenario: Scenario, demand: DayDemand, layouts: dict[str, Layout], note: Note, sample_s: float
    ) -> None:
        """sample_s: seconds of an hour that are simulated; the scenario's workload has as many (`sampled`)."""
        self._sample_s = sample_s
        self._scenario, self._demand, self._layouts, self._note = scenario, demand, layouts, note
        self._known: dict[tuple[float, Pools], list[PoolHour]] = {}
        self.simulations = 0

    def verify(self, fleet: Fleet) -> list[PoolHour]:
        """Every pool of every distinct hour."""
        groups: dict[tuple[float, Pools], list[int]] = {}
        for hour, rate in enumerate(self._demand.rates_per_s):
            pools = tuple(
                (one.name, row[hour], one.at(hour) * row[hour])
                for one, row in zip(fleet.types, fleet.running, strict=True)
                if row[hour]
            )
            groups.setdefault((rate, pools), []).append(hour)
        found: list[PoolHour] = []
        for number, (key, hours) in enumerate(groups.items()):
            self._note(f"verifying hour {number + 1} of {len(groups)} distinct ones")
            if key not in self._known:
                self._known[key] = self._simulate(*key)
            found += [replace(pool, hours=tuple(hours)) for pool in self._known[key]]
        return found

    def _simulate(self, rate_per_s: float, pools: Pools) -> list[PoolHour]:
        if not rate_per_s > 0.0:
            return [PoolHour(name, rungs, 0.0, (), None) for name, rungs, _ in pools]
        requests = hour_requests(self._scenario, rate_per_s, self._sample_s)
        shares = np.array([capacity for *_, capacity in pools])
        result = []
        for (name, rungs, _), part in zip(pools, split(requests, shares, self._scenario.seed), strict=True):
            rate = requests.mean_rate_per_s * (0.0 if part is None else len(part) / len(requests))
            verdict = None
            if part is not None:
                verdict = judge(self._layouts[name].scenario(self._scenario, rungs), part, stop_at=STOP_AT)
                self.simulations += 1
            result.append(PoolHour(name, rungs, rate, (), verdict, requests.duration_s))
        return result


def sampled(scenario: Scenario, rate_per_s: float, sample_s: float) -> Scenario:
    """The scenario with so many seconds of its workload at a rate; more where the workload itself lasts longer.

    Of a trace file so many requests are kept as arrive in that time, since a file is squeezed to the rate.
    """
    workload = scenario.workload
    longer_s = max(sample_s, workload.duration_s or 0.0)
    update: dict[str, Any] = {"duration_s": longer_s, "num_requests": None}
    if workload.generator is None and workload.trace not in catalog_names():
        update = {"duration_s": None, "num_requests": math.ceil(rate_per_s * longer_s)}
    return scenario.model_copy(update={"workload": workload.model_copy(update=update)})


def hour_requests(scenario: Scenario, rate_per_s: float, sample_s: float) -> RequestTable:
    """A sample of an hour's requests: of a quiet hour a longer one, so that it has some; raises FleetcastError."""
    longer_s = max(sample_s, FEW / rate_per_s)
    for tried in range(TRIES):
        one = sampled(scenario, rate_per_s, longer_s)
        try:
            requests = requests_at(one.workload, one.seed, rate_per_s)
        except FleetcastError:  # a draw of a catalog trace with one request or none
            if scenario.workload.trace not in catalog_names() or tried == TRIES - 1:
                raise
            longer_s *= LONGER
        else:
            break
    return requests


def split(
    requests: RequestTable, shares: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int
) -> list[RequestTable | None]:
    """Requests drawn to pools with chances in proportion to their shares: a part each.

    Parts of less than two requests go to the pool that has most; None for who has none.
    """
    if len(shares) == 1:
        return [requests]
    edges = np.cumsum(shares / shares.sum())
    pool = np.searchsorted(edges[:-1], stream(seed, "plan/pools").random(len(requests)), side="right")
    counts = np.bincount(pool, minlength=len(shares))
    pool[counts[pool] < LEAST_REQUESTS] = int(np.argmax(counts))
    parts = [np.flatnonzero(pool == number) for number in range(len(shares))]
    return [requests.take(part) if len(part) else None for part in parts]
