"""The demand that a plan is for: a workload at a rate, as a [workload] section that any run can read."""

from __future__ import annotations

import math

import numpy as np

from hardware_models.errors import FleetcastError
from sim.scenario import WorkloadSection
from sim.workload import load_requests
from workloads.request import RequestTable

CLOSE = 0.005  # share by which the rate of the requests may differ from the rate asked for
TRIES = 60  # drawings in search of it


def mean_rate(requests: RequestTable) -> float:
    """Requests/s; raises FleetcastError for requests that have no rate."""
    rate = requests.mean_rate_per_s
    if not rate > 0:
        raise FleetcastError("plan: the workload needs at least two requests at different times")
    return rate


def workload_at(workload: WorkloadSection, seed: int, rate_per_s: float) -> WorkloadSection:
    """The workload with the rate_scale that brings about so many requests/s, to half a per cent (`CLOSE`).

    Where requests are so few that no rate_scale does, the nearest that was tried. Raises FleetcastError.
    """
    if not 0 < rate_per_s < 1e9:
        raise FleetcastError(f"--rate {rate_per_s:g}: give requests/s above 0")
    return rescaled(workload, seed, rate_per_s)


def rescaled(workload: WorkloadSection, seed: int, rate_per_s: float) -> WorkloadSection:
    """See `workload_at`.

    Where requests are drawn for a time, another scale draws others, so that their rate is no multiple of the scale: by
    its ratio at first, by halving once the rate lies between two scales.
    """
    scale, low, high = workload.rate_scale, 0.0, math.inf
    best, least = workload, math.inf
    for _ in range(TRIES):
        found = workload.model_copy(update={"rate_scale": scale})
        ratio = mean_rate(load_requests(found, seed)) / rate_per_s
        if abs(math.log(ratio)) < least:
            best, least = found, abs(math.log(ratio))
        if least <= CLOSE:
            break
        low, high = (scale, high) if ratio < 1.0 else (low, scale)
        if high - low <= 1e-9 * low:
            break
        scale /= ratio
        if not low < scale < high:
            scale = math.sqrt(low * high) if low > 0.0 else high / 2.0
    return best


def off_by(asked_per_s: float, requests: RequestTable) -> str:
    """A note where the requests' rate is not the one asked for; empty where it is."""
    rate = mean_rate(requests)
    if abs(math.log(rate / asked_per_s)) <= 2 * CLOSE:
        return ""
    return (
        f"asked for {asked_per_s:g} requests/s; no rate_scale brings so few requests nearer to it than {rate:.4g}/s:"
        " give a longer workload.duration_s"
    )


def same_requests(one: RequestTable, other: RequestTable) -> bool:
    """Do two tables ask for the same at the same times?"""
    return len(one) == len(other) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("arrival_s", "prompt_tokens", "output_tokens")
    )
