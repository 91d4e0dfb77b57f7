"""The highest request rate a deployment sustains: bisection over the rate of one workload, limits on its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hardware_models.errors import FleetcastError
from sim.metrics import METRICS, Metric
from sim.run import run
from sim.scenario import Scenario
from sim.workload import load_requests
from workloads.request import RequestTable


@dataclass(frozen=True, slots=True)
class Capacity:
    """Rates between which the limit lies, requests/s: kept at `rate_per_s`, broken at `broken_at_per_s`."""

    rate_per_s: float
    broken_at_per_s: float
    simulations: int


def keeps(limits: Mapping[str, float], scenario: Scenario, requests: RequestTable) -> bool:
    """Does a run keep every limit (metric key -> largest value allowed)? A rejected request breaks them."""
    summary = run(scenario, requests=requests).summary
    if summary["rejected"]:
        return False
    return all(_metric(key).value(summary) <= limit for key, limit in limits.items())


def find_capacity(
    scenario: Scenario, limits: Mapping[str, float], *, tolerance: float = 0.02, most_per_s: float = 1e4
) -> Capacity:
    """Search between a tenth of the workload's own rate and `most_per_s`; raises FleetcastError where no rate keeps
    the limits.

    The same draws are squeezed in time, so that two schedulers see the same requests; the answer is good to
    `tolerance`.
    """
    if not limits:
        raise FleetcastError("capacity: no limits given; name at least one metric and its largest value")
    base = load_requests(scenario.workload, scenario.seed)
    own = base.mean_rate_per_s
    if not own > 0:
        raise FleetcastError("capacity: the workload needs at least two requests at different times")
    count = 0

    def ok(rate: float) -> bool:
        nonlocal count
        count += 1
        return keeps(limits, scenario, base.scale_rate(rate / own))

    low = high = own
    if ok(own):
        while ok(high := high * 2):
            low = high
            if high > most_per_s:
                return Capacity(high, float("inf"), count)
    else:
        while not ok(low := low / 2):
            high = low
            if low < own / 1000:
                raise FleetcastError(
                    f"capacity: even {low:.3g} requests/s break a limit of {dict(limits)}; loosen it or add hardware"
                )
    while high / low > 1 + tolerance:
        middle = (low * high) ** 0.5
        if ok(middle):
            low = middle
        else:
            high = middle
    return Capacity(low, high, count)


def _metric(key: str) -> Metric:
    if key in METRICS:
        return METRICS[key]
    return Metric(key, key, "", "", 1.0, larger_is_better=False)
