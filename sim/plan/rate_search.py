"""Bisection over the request rate of one scenario, for any question that a higher rate answers with no sooner or later.

A rate that the price model proves to be too much is not simulated, and a run that cannot keep the SLO any more is ended
early, so a rate far beyond the capacity costs no more than one near it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sim.plan.bounds import replicas_needed
from sim.plan.capacity import requests_at
from sim.plan.judge import Verdict, judge
from sim.plan.request_work import RequestWork
from sim.plan.stability import ROUNDING
from sim.scenario import Scenario
from workloads.request import RequestTable

LEAST_SHARE = 1e-3  # of the rate a search starts from: where it gives up
MOST_REQUESTS = 1_000_000  # of one simulation
MOST_PER_S = 1e6
FEW = 20.0  # requests that a run must have
Note = Callable[[str], None]


@dataclass
class RateSearch:
    """Bisections over the rate of one scenario, with a count of what they took."""

    scenario: Scenario
    tolerance: float = 0.02
    note: Note = lambda _line: None
    simulations: int = 0
    ended_early: int = 0
    proved: int = 0
    last: Verdict | None = None
    _work: RequestWork | None = None

    def requests(self, seed: int, rate_per_s: float) -> RequestTable:
        """The workload at a rate."""
        return requests_at(self.scenario.workload, seed, rate_per_s)

    def keeps(self, seed: int, rate_per_s: float) -> bool:
        """Does the SLO hold at this rate?"""
        requests = self.requests(seed, rate_per_s)
        if self.too_much(requests):
            self.proved += 1
            return False
        self.last = self.verdict(seed, requests, stop_at=1.0)
        return self.last.met

    def verdict(self, seed: int, requests: RequestTable, stop_at: float) -> Verdict:
        """Of a simulation."""
        scenario = self.scenario.model_copy(update={"seed": seed})
        self.simulations += 1
        verdict = judge(scenario, requests, stop_at=stop_at, growth_allowed=self.tolerance)
        self.ended_early += verdict.stopped_at_s is not None
        self.note(f"seed {seed}: {self.simulations} simulations, {requests.mean_rate_per_s:.3g} requests/s")
        return verdict

    def too_much(self, requests: RequestTable) -> bool:
        """Does the price model prove that these requests break the SLO?"""
        needed = replicas_needed(self.work(requests), self.scenario.slo, self.tolerance)
        return needed.replicas * (1.0 - ROUNDING) > self.scenario.serving.replicas

    def work(self, requests: RequestTable) -> RequestWork:
        """Least work of the requests."""
        found = self._work.on(requests) if self._work is not None else None
        if found is None:
            found = self._work = RequestWork(self.scenario, requests)
        return found

    def highest(self, holds: Callable[[float], bool], start_per_s: float, step: float) -> tuple[float, float]:
        """The highest rate that holds, and one that does not, within the tolerance; (0, rate) where none holds,
        (rate, infinity) where all do.
        """
        low, high = 0.0, math.inf
        rate, factor = start_per_s, step
        while low == 0.0 or high == math.inf:
            if holds(rate):
                low, rate = rate, rate * factor
                if high == math.inf and self._out_of_reach(rate):
                    return low, math.inf
            else:
                high, rate = rate, rate / factor
                if low == 0.0 and self._too_few(rate, start_per_s):
                    return 0.0, high
            factor = min(2.0, factor * factor)
        while high / low > 1.0 + self.tolerance:
            middle = math.sqrt(low * high)
            if holds(middle):
                low = middle
            else:
                high = middle
        return low, high

    def _out_of_reach(self, rate_per_s: float) -> bool:
        lasting_s = self._lasting_s()
        return rate_per_s > (MOST_PER_S if lasting_s is None else min(MOST_PER_S, MOST_REQUESTS / lasting_s))

    def _too_few(self, rate_per_s: float, start_per_s: float) -> bool:
        """So few requests that their percentile is that of none, or a rate out of all proportion."""
        beyond = 1.0 - self.scenario.slo.percentile / 100.0
        few = min(1.0 / beyond, FEW) if beyond > 0 else FEW
        lasting_s = self._lasting_s()
        return rate_per_s < start_per_s * LEAST_SHARE or (lasting_s is not None and rate_per_s * lasting_s < few)

    def _lasting_s(self) -> float | None:
        """Seconds that a run's arrivals last, where they last as long at every rate."""
        workload = self.scenario.workload
        return workload.duration_s if workload.num_requests is None and workload.duration_s is not None else None
