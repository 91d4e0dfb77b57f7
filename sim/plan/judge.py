"""Does a deployment keep the SLO on a workload? A simulation, ended early where the answer is beyond doubt."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hardware_models.intervals import NORMAL_90
from policies.serving import Sequence
from sim.plan.request_work import RequestWork
from sim.plan.stability import Growth, Load, queue_growth
from sim.run import run
from sim.scenario import Scenario, SloSection
from sim.serving.record import RequestLog
from workloads.request import RequestTable

LIMITS = {"ttft_s": "TTFT", "tbt_s": "longest TBT", "tpot_s": "TPOT", "e2e_s": "E2E"}
TO_THE_END = math.inf  # for `stop_at`
GROWTH_ALLOWED = 0.02  # of the arrivals: what a bisection to two per cent can tell


class OverError(Exception):
    """The run under way cannot keep the SLO any more."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of an SLO as a run kept it, at the SLO's percentile over all requests."""

    key: str
    limit_s: float
    reached_s: float  # infinite: too many requests were rejected; a lower bound where the run was ended early
    low_s: float  # 90 % interval by the calibration's error bars
    high_s: float

    @property
    def ratio(self) -> float:
        """Reached over limit: above 1 it is missed."""
        return self.reached_s / self.limit_s

    @property
    def too_close(self) -> bool:
        """Do the error bars span the limit?"""
        return self.low_s <= self.limit_s <= self.high_s


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a simulation said."""

    met: bool
    limits: tuple[Limit, ...]
    stopped_at_s: float | None = None  # simulated time at which the run was ended, the SLO being missed for certain
    growth: Growth | None = None  # of the queue, where no limit is on TTFT or E2E
    load: Load | None = None  # on the replicas, likewise
    summary: dict[str, Any] = field(default_factory=dict, repr=False)  # empty where the run was ended early

    @property
    def worst(self) -> float:
        """Largest ratio of what was reached to its limit; with a growing queue alone, 1 and its growth's share."""
        ratios = [limit.ratio for limit in self.limits]
        if self.growth is not None:
            ratios.append(1.0 + self.growth.share if self.growth.unstable else 0.0)
        if self.load is not None:
            ratios.append(self.load.share if self.load.too_much else 0.0)
        return max(ratios)

    @property
    def too_close(self) -> tuple[Limit, ...]:
        """Limits within the error bars."""
        return tuple(limit for limit in self.limits if limit.too_close)


def may_miss(requests: int, percentile: float) -> int:
    """How many requests may be over a limit that is judged at a percentile of all: those beyond the one that numpy's
    "higher" percentile picks, as `sim.serving.summary` does.
    """
    return requests - 1 - math.ceil((requests - 1) * (percentile / 100.0))


class JudgedLog(RequestLog):
    """Ends the run with OverError once more requests are over `factor` times a limit than may be.

    Sound: what is counted has happened, or has been turned away, and counts are over all requests of the workload.
    """

    def __init__(self, requests: RequestTable, slo: SloSection, factor: float = 1.0) -> None:
        super().__init__(requests)
        self.over = dict.fromkeys(LIMITS, 0)
        self.ended_s: float | None = None
        self._may_miss = may_miss(len(requests), slo.percentile)
        self._limits = {key: (getattr(slo, key) or math.inf) * factor for key in LIMITS}

    def finish(self, sequence: Sequence, end_s: float, replica: int) -> None:
        """A sequence has all its tokens."""
        super().finish(sequence, end_s, replica)
        over, limits = self.over, self._limits
        ttft, e2e = sequence.first_token_s - sequence.arrival_s, end_s - sequence.arrival_s
        over["ttft_s"] += ttft > limits["ttft_s"]
        over["e2e_s"] += e2e > limits["e2e_s"]
        if sequence.output_tokens > 1:
            over["tbt_s"] += sequence.max_gap_s > limits["tbt_s"]
            over["tpot_s"] += (e2e - ttft) / (sequence.output_tokens - 1) > limits["tpot_s"]
        if max(over.values()) + len(self.rejected) > self._may_miss:
            self.ended_s = end_s
            raise OverError


def has_limits(slo: SloSection) -> bool:
    """Does the SLO limit anything?"""
    return any(getattr(slo, key) is not None for key in LIMITS)


def judges_stability(slo: SloSection) -> bool:
    """Without a limit on TTFT or E2E a queue may grow for ever and keep the SLO: then its growth is judged as well, and
    whether the least work that arrives fits in the replicas' time.
    """
    return slo.ttft_s is None and slo.e2e_s is None


def judge(
    scenario: Scenario, requests: RequestTable, *, stop_at: float = 1.0, growth_allowed: float = GROWTH_ALLOWED
) -> Verdict:
    """Simulate and judge; raises FleetcastError for an impossible scenario.

    stop_at: the run ends early where the SLO would be missed even with limits so many times as wide; the verdict then
    has lower bounds. growth_allowed: share of the arrivals by which the queue may grow, where that is judged.
    """
    slo = scenario.slo
    if not has_limits(slo) or not math.isfinite(stop_at):
        return _judged(scenario, requests, run(scenario, requests=requests), growth_allowed)
    log = JudgedLog(requests, slo, stop_at)
    try:
        result = run(scenario, requests=requests, log=log)
    except OverError:
        worst = max(log.over.values()) + len(log.rejected)
        limits = tuple(
            Limit(key, limit, limit * stop_at, limit * stop_at, math.inf)
            for key in LIMITS
            if (limit := getattr(slo, key)) is not None and log.over[key] + len(log.rejected) == worst
        )
        return Verdict(met=False, limits=limits, stopped_at_s=log.ended_s)
    return _judged(scenario, requests, result, growth_allowed)


def _judged(scenario: Scenario, requests: RequestTable, result: Any, growth_allowed: float) -> Verdict:
    summary = result.summary
    slo = summary["slo"]
    limits = tuple(_limit(key, slo[key], summary) for key in LIMITS if isinstance(slo.get(key), dict))
    met, growth, load = bool(slo["met"]), None, None
    if judges_stability(scenario.slo):
        columns = result.request_columns
        growth = queue_growth(columns["arrival_s"], columns["arrival_s"] + columns["e2e_s"], growth_allowed)
        load = Load(RequestWork(scenario, requests).load() / scenario.serving.replicas, growth_allowed)
        met = met and not growth.unstable and not load.too_much
    return Verdict(met, limits, growth=growth, load=load, summary=summary)


def _limit(key: str, judged: dict[str, Any], summary: dict[str, Any]) -> Limit:
    reached = math.inf if judged["reached"] is None else judged["reached"]
    factor = math.exp(NORMAL_90 * _spread(summary, key))
    return Limit(key, judged["limit"], reached, reached / factor, reached * factor)


def _spread(summary: dict[str, Any], key: str) -> float:
    """Standard deviation of the logarithm of a latency at the SLO's percentile, or the nearest that has error bars."""
    bars = summary["interval_90"].get("max_tbt_s" if key == "tbt_s" else key, {})
    points = [point for point in ("p50", "p90", "p95", "p99") if point in bars]
    if not points:
        return 0.0
    percentile = summary["slo"]["percentile"]
    low, high = bars[min(points, key=lambda point: abs(float(point[1:]) - percentile))]
    return float(np.log(high / low)) / (2 * NORMAL_90) if low > 0 else 0.0
