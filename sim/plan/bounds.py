"""Proved bounds of serving: how many replicas a workload needs at least, whatever the scheduler does.

A request that keeps its SLO has its work (`sim.plan.request_work`) done between its arrival and its deadline: its
prompt's by arrival + TTFT; all of it by arrival + E2E, or by arrival + TTFT + (output tokens - 1) x TBT (or TPOT). So
in any window of time the work of the requests that arrive and are due inside it, less that of the requests that may
miss the SLO (the largest are taken), must fit in the time of the replicas: the demand bound of real-time scheduling
(Baruah, Rosier and Howell, Algorithms and Complexity Concerning the Preemptive Scheduling of Periodic, Real-Time Tasks
on One Processor, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.plan.judge import GROWTH_ALLOWED, LIMITS, has_limits, judges_stability, may_miss
from sim.plan.request_work import RequestWork
from sim.plan.stability import ROUNDING
from sim.scenario import SloSection

Floats = NDArray[np.float64]
WINDOWS = 48  # starts of windows looked at
LOOKS = 2_000_000  # at requests, over all windows


@dataclass(frozen=True, slots=True)
class Needed:
    """How many replicas a workload needs at least, and why."""

    replicas: float  # infinite: no number would do
    reason: str

    @property
    def count(self) -> int:
        """As a whole number; call it for finite needs only."""
        return max(1, math.ceil(self.replicas * (1.0 - ROUNDING)))


def replicas_needed(work: RequestWork, slo: SloSection, growth_allowed: float = GROWTH_ALLOWED) -> Needed:
    """Replicas without which the SLO is missed for certain or, where the SLO lets it, the queue grows.

    growth_allowed: as of `sim.plan.judge.judge`.
    """
    count = len(work.requests)
    spare, turned_away = may_miss(count, slo.percentile), int(np.count_nonzero(~work.held))
    if turned_away > spare and has_limits(slo):
        return Needed(
            math.inf,
            f"{turned_away} of {count} requests are longer than serving.max_model_len or than all"
            f" {work.deployment.limits.kv_blocks:,} KV blocks of a replica: no number of replicas serves them",
        )
    for reason in _impossible(work, slo, spare):
        return Needed(math.inf, reason)
    found = Needed(1.0, "")
    if judges_stability(slo):
        load = work.load()
        found = Needed(max(1.0, load / (1.0 + growth_allowed)), f"{load:.2f} s of work arrive a second at least")
    for what, due_s, seconds, drops in _deadlines(work, slo, spare):
        replicas = max(_demand(work.requests.arrival_s, due_s, stage, drops) for stage in seconds)
        if replicas > found.replicas:
            found = Needed(replicas, f"{what} keeps {replicas:.2f} replicas busy at least, however it is batched")
    return found


def _impossible(work: RequestWork, slo: SloSection, spare: int) -> Iterator[str]:
    """Limits that even an idle replica misses for more requests than may."""
    output = work.requests.output_tokens
    ttft, gap = work.alone_s()
    between = np.where(output > 1, gap, 0.0)
    least = {"ttft_s": ttft, "tbt_s": between, "tpot_s": between, "e2e_s": ttft + (output - 1) * gap}
    for key, seconds in least.items():
        limit = getattr(slo, key)
        if limit is not None and int(np.count_nonzero(seconds[work.held] > limit * (1.0 + ROUNDING))) > spare:
            at = float(np.percentile(seconds, slo.percentile, method="higher"))
            yield (
                f"even an idle replica takes {at * 1e3:,.0f} ms at least for p{slo.percentile:g} {LIMITS[key]}"
                f" (limit {limit * 1e3:,.0f} ms): no number of replicas helps"
            )


def _deadlines(work: RequestWork, slo: SloSection, spare: int) -> Iterator[tuple[str, Floats, Floats, int]]:
    """(what must be done, by when, its least seconds (stages, requests), how many requests may be late)."""
    arrival, later = work.requests.arrival_s, work.requests.output_tokens - 1.0
    if slo.ttft_s is not None:
        yield "reading the prompts within the TTFT limit", arrival + slo.ttft_s, work.prompt_s(), spare
    if slo.e2e_s is not None:
        yield "serving the requests within the E2E limit", arrival + slo.e2e_s, work.request_s(), spare
    for key in ("tbt_s", "tpot_s"):
        limit = getattr(slo, key)
        if slo.ttft_s is not None and limit is not None:
            what = f"serving the requests within the TTFT and {LIMITS[key]} limits"
            yield what, arrival + slo.ttft_s + later * limit, work.request_s(), 2 * spare


def _demand(arrival: Floats, due: Floats, work: Floats, drops: int) -> float:
    """Replicas whose whole time the work takes in the tightest window, less that of the `drops` largest requests.

    Windows start at some of the arrivals and end at any deadline: each is a proof, more only sharpen it.
    """
    dropped = float(np.sort(work)[len(work) - drops :].sum()) if drops else 0.0
    order = np.argsort(due, kind="stable")
    due, work, arrival = due[order], work[order], arrival[order]
    most, windows = 0.0, max(1, min(WINDOWS, LOOKS // len(work)))
    for start in np.unique(np.quantile(arrival, np.linspace(0.0, 0.98, windows), method="lower")).tolist():
        inside = np.cumsum(np.where(arrival >= start, work, 0.0)) - dropped
        length = due - start
        most = max(most, float(np.max(np.divide(inside, length, out=np.zeros_like(inside), where=length > 0))))
    return most
