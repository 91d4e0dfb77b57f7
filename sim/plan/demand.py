"""The demand that a plan is for: a workload at a rate, as a [workload] section that any run can read."""

from __future__ import annotations

from hardware_models.errors import FleetcastError
from sim.scenario import WorkloadSection
from sim.workload import load_requests
from workloads.request import RequestTable


def mean_rate(requests: RequestTable) -> float:
    """Requests/s; raises FleetcastError for requests that have no rate."""
    rate = requests.mean_rate_per_s
    if not rate > 0:
        raise FleetcastError("plan: the workload needs at least two requests at different times")
    return rate


def workload_at(workload: WorkloadSection, seed: int, rate_per_s: float) -> WorkloadSection:
    """The workload with the rate_scale that brings about so many requests/s.

    Where requests are drawn for a time, more or fewer are drawn, so the rate comes out as near as their number allows.
    """
    if not 0 < rate_per_s < 1e9:
        raise FleetcastError(f"--rate {rate_per_s:g}: give requests/s above 0")
    factor = rate_per_s / mean_rate(load_requests(workload, seed))
    return workload.model_copy(update={"rate_scale": workload.rate_scale * factor})
