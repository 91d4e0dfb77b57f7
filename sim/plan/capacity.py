"""The highest request rate a deployment sustains: bisection over the rate of one workload, limits on its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hardware_models.errors import FleetcastError
from sim.metrics import summary_metric
from sim.plan.demand import rescaled
from sim.run import run
from sim.scenario import Scenario, WorkloadSection
from sim.workload import load_requests
from workloads.request import RequestTable
from workloads.traces.catalog import catalog_names

LEAST_SHARE = 1e-3  # of the workload's own rate: where the search gives up
FALL_WITH_RATE = ("cost_usd", "duration_s", "pipeline_bubble_fraction", "usd_per_million_output_tokens")


@dataclass(frozen=True, slots=True)
class Capacity:
    """Rates between which the limit lies, requests/s: kept at `rate_per_s`, broken at `broken_at_per_s`."""

    rate_per_s: float
    broken_at_per_s: float
    simulations: int


def check_limits(limits: Mapping[str, float], where: str = "capacity") -> None:
    """Refuse limits that a rate could not be searched with: none, unknown metrics, and metrics that
    do not worsen as the rate rises.

    Raises FleetcastError (UnknownNameError for a metric that no summary has), in which `where` names the asker.
    """
    if not limits:
        raise FleetcastError(f"{where}: no limits given; name at least one metric and its largest value")
    for key, limit in limits.items():
        metric = summary_metric(key, f"{where}: limits")
        why = "more of it is better" if metric.larger_is_better else "neither more nor less of it is better"
        if key in FALL_WITH_RATE:
            why = "it falls as the rate rises"
        if key in FALL_WITH_RATE or metric.larger_is_better is not False:
            raise FleetcastError(
                f"{where}: limits: '{key}' = {limit:g} would be a largest value, but {why};"
                " limit a latency or another metric that a lower rate makes smaller"
            )


def keeps(limits: Mapping[str, float], scenario: Scenario, requests: RequestTable) -> bool:
    """Does a run keep every limit (metric key -> largest value allowed)?

    Raises FleetcastError where a metric has no value, and where a request was rejected: its length is at fault, so
    that no rate would be low enough.
    """
    summary = run(scenario, requests=requests).summary
    if summary["rejected"]:
        raise FleetcastError(
            f"capacity: {summary['rejected']} of {len(requests)} requests are longer than serving.max_model_len or than"
            " all KV blocks, at any rate; shorten them or give the engine more memory"
        )
    kept = True
    for key, limit in limits.items():
        value = summary_metric(key, "capacity: limits").value(summary)
        if math.isnan(value):
            raise FleetcastError(f"capacity: a run of this workload has no '{key}'; limit a metric that it has")
        kept &= value <= limit
    return kept


def requests_at(workload: WorkloadSection, seed: int, rate_per_s: float) -> RequestTable:
    """The requests of a workload at another mean rate (requests/s) than its own.

    Where requests are drawn and `duration_s` is given, a run lasts as long at every rate: a generator draws
    duration_s x rate_per_s of them (`num_requests` at most), a catalog trace is drawn anew by the `rate_scale` that
    brings the rate about; what is left of the difference is squeezed or stretched. All else, a trace file above all,
    has its own number of requests, squeezed or stretched in time. The draws for a lower rate are the first of those for
    a higher one.
    """
    if workload.generator is not None and workload.duration_s is not None:
        count = max(2, round(workload.duration_s * rate_per_s))
        count = min(count, workload.num_requests or count)
        counted = workload.model_copy(update={"duration_s": None, "num_requests": count})
        return _scaled(load_requests(counted, seed), rate_per_s)
    if workload.trace in catalog_names():
        workload = rescaled(workload, seed, rate_per_s)
    return _scaled(load_requests(workload, seed), rate_per_s)


def find_capacity(
    scenario: Scenario, limits: Mapping[str, float], *, tolerance: float = 0.02, most_per_s: float = 1e4
) -> Capacity:
    """Search between a thousandth of the workload's own rate (LEAST_SHARE) and `most_per_s`.

    limits: metric key -> largest value allowed. The answer is good to a share of `tolerance`. Two schedulers see the
    same requests at the same rate, those of `requests_at`. Raises FleetcastError where no rate keeps the limits, or
    where a limit makes no sense (see `check_limits`, `keeps`).
    """
    check_limits(limits)
    own = _mean_rate(load_requests(scenario.workload, scenario.seed))
    count = 0

    def ok(rate: float) -> bool:
        nonlocal count
        count += 1
        return keeps(limits, scenario, requests_at(scenario.workload, scenario.seed, rate))

    low = high = own
    if ok(own):
        while ok(high := high * 2):
            low = high
            if high > most_per_s:
                return Capacity(high, float("inf"), count)
    else:
        while not ok(low := low / 2):
            high = low
            if low < own * LEAST_SHARE:
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


def _scaled(table: RequestTable, rate_per_s: float) -> RequestTable:
    return table.scale_rate(rate_per_s / _mean_rate(table))


def _mean_rate(table: RequestTable) -> float:
    rate = table.mean_rate_per_s
    if not rate > 0:
        raise FleetcastError("capacity: the workload needs at least two requests at different times")
    return rate
