"""The highest request rate that a deployment sustains under its SLO, with how sure that is.

Each seed has its own highest rate, found by bisection; over seeds these are independent draws of one law, so Student's
t gives an interval for the mean of their logarithms. The same seed gives every deployment the same requests (common
random numbers).

Error bars of the calibration are another matter than chance: they are given as the rates at which their upper and
lower ends just keep the limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from hardware_models.errors import FleetcastError
from sim.plan.bounds import replicas_needed
from sim.plan.demand import mean_rate, same_requests
from sim.plan.judge import TO_THE_END, Verdict, has_limits, judges_stability
from sim.plan.rate_search import Note, RateSearch
from sim.plan.request_work import RequestWork
from sim.scenario import Scenario
from sim.workload import load_requests

SETTLES = "the queue does not grow over the run, and the least work that arrives fits in the replicas' time"
NEAR = 1.1  # first step of a search that starts near the answer


@dataclass(frozen=True, slots=True)
class SeedRate:
    """The highest rate of one seed, requests/s, between a rate that keeps the SLO and one that breaks it."""

    seed: int
    kept_per_s: float
    broken_per_s: float  # infinite: nothing broke it

    @property
    def middle_per_s(self) -> float:
        """Geometric middle."""
        return math.sqrt(self.kept_per_s * self.broken_per_s) if math.isfinite(self.broken_per_s) else self.kept_per_s


@dataclass(frozen=True, slots=True)
class Sustainable:
    """The answer of `find_sustainable`; rates are requests/s."""

    seeds: tuple[SeedRate, ...]
    confidence: float
    tolerance: float
    criterion: str
    safe_ratio: float | None  # to the first seed's rate: so far even the upper ends of the 90 % error bars do
    hopeful_ratio: float | None  # so far the lower ends do
    proved_per_s: float | None  # no rate above this keeps the SLO for the first seed's requests, by the price model
    simulations: int
    ended_early: int  # of these
    proved: int  # rates refused without a simulation
    notes: tuple[str, ...] = ()
    at_limit: Verdict | None = field(default=None, repr=False)  # of the highest rate that kept, or of the lowest tried

    @property
    def found(self) -> bool:
        """Does any rate keep the SLO?"""
        return all(one.kept_per_s > 0.0 for one in self.seeds)

    @property
    def bounded(self) -> bool:
        """Does any rate break it?"""
        return all(math.isfinite(one.broken_per_s) for one in self.seeds)

    @property
    def rate_per_s(self) -> float:
        """Geometric mean over the seeds; 0 where no rate keeps the SLO."""
        if not self.found:
            return 0.0
        return math.exp(float(np.mean([math.log(one.middle_per_s) for one in self.seeds])))

    @property
    def safe_per_s(self) -> float | None:
        """Up to here even the upper ends of the 90 % error bars keep the limits; by the ratio of the first seed."""
        return None if self.safe_ratio is None else self.safe_ratio * self.rate_per_s

    @property
    def hopeful_per_s(self) -> float | None:
        """Up to here the lower ends do."""
        return None if self.hopeful_ratio is None else self.hopeful_ratio * self.rate_per_s

    @property
    def interval_per_s(self) -> tuple[float, float]:
        """Confidence interval of the mean, the bisection's tolerance added; NaN for one seed."""
        half = self.half_width
        return self.rate_per_s * math.exp(-half), self.rate_per_s * math.exp(half)

    @property
    def half_width(self) -> float:
        """Of the interval, as a difference of logarithms."""
        if len(self.seeds) < 2 or not self.found:
            return math.nan
        from scipy.stats import t

        logs = np.log([one.middle_per_s for one in self.seeds])
        quantile = float(t.ppf(0.5 + 0.5 * self.confidence, len(logs) - 1))
        return quantile * float(logs.std(ddof=1)) / math.sqrt(len(logs)) + 0.5 * math.log1p(self.tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateOptions:
    """How sure the answer shall be."""

    confidence: float = 0.95
    precision: float = 0.05  # half-width of the interval, as a share, at which no more seeds are added
    least_seeds: int = 3
    most_seeds: int = 10
    tolerance: float = 0.02  # of each bisection
    error_bars: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (("confidence", 0.5, 1.0), ("precision", 0.0, 10.0), ("tolerance", 0.0, 1.0)):
            value = getattr(self, name)
            if not low < value < high:
                raise FleetcastError(f"{name} = {value:g}: give a share between {low:g} and {high:g}")
        if not 1 <= self.least_seeds <= self.most_seeds:
            raise FleetcastError(
                f"seeds: at least {self.least_seeds}, at most {self.most_seeds}: give 1 or more, the least first"
            )


def find_sustainable(
    scenario: Scenario, options: RateOptions | None = None, note: Note = lambda _line: None
) -> Sustainable:
    """Search; raises FleetcastError for an impossible scenario. note: called with a line on how far it is."""
    options = options or RateOptions()
    scenario, own = within_reach(scenario, options.tolerance)
    search = RateSearch(scenario, options.tolerance, note)
    seeds: list[SeedRate] = []
    notes: list[str] = []
    at_limit: Verdict | None = None
    for number in range(options.most_seeds):
        seed = scenario.seed + number
        start, step = (own, 2.0) if not seeds else (seeds[-1].middle_per_s, NEAR)
        seeds.append(SeedRate(seed, *search.highest(lambda rate, s=seed: search.keeps(s, rate), start, step)))  # type: ignore[misc]
        if number == 0:
            at_limit = _at(search, seeds[0])
        so_far = _answer(search, seeds, options, notes)
        if not so_far.found or not so_far.bounded:
            notes += _why_unbounded(so_far, search)
            break
        if number == 1 and _seeds_change_nothing(search, seeds):
            notes.append("every seed has the same requests: the interval is that of the bisection alone")
            break
        if len(seeds) >= options.least_seeds and so_far.half_width <= math.log1p(options.precision):
            break
    else:
        if options.most_seeds > 1 and so_far.half_width > math.log1p(options.precision):
            notes.append(f"wider than asked for: stopped at {options.most_seeds} seeds, the most allowed")
    bars = _by_error_bars(search, seeds[0]) if options.error_bars and so_far.found and so_far.bounded else (None, None)
    proved = _proved(search, seeds[0]) if so_far.bounded else None
    return _answer(search, seeds, options, notes, bars, proved, at_limit)


def within_reach(scenario: Scenario, tolerance: float) -> tuple[Scenario, float]:
    """The scenario at its own rate, or where that is proved to be too much, at one that is not by far; and the rate."""
    for _ in range(4):
        requests = load_requests(scenario.workload, scenario.seed)
        own = mean_rate(requests)
        needed = replicas_needed(RequestWork(scenario, requests), scenario.slo, tolerance)
        share = needed.replicas / scenario.serving.replicas
        if not 2.0 < share < math.inf:
            break
        workload = scenario.workload.model_copy(update={"rate_scale": scenario.workload.rate_scale / share})
        scenario = scenario.model_copy(update={"workload": workload})
    return scenario, own


def _answer(
    search: RateSearch,
    seeds: list[SeedRate],
    options: RateOptions,
    notes: list[str],
    bars: tuple[float | None, float | None] = (None, None),
    proved: float | None = None,
    at_limit: Verdict | None = None,
) -> Sustainable:
    return Sustainable(
        tuple(seeds), options.confidence, options.tolerance, criterion(search.scenario), *bars, proved,
        search.simulations, search.ended_early, search.proved, tuple(notes), at_limit,
    )  # fmt: skip


def criterion(scenario: Scenario) -> str:
    """What is asked of a run, in words."""
    slo = scenario.slo
    if not has_limits(slo):
        return f"{SETTLES} (no [slo] is given: stability is all that is asked)"
    if judges_stability(slo):
        return f"the limits of [slo] at p{slo.percentile:g}, and {SETTLES} (none of them is on waiting)"
    return f"the limits of [slo] at p{slo.percentile:g}"


def _at(search: RateSearch, found: SeedRate) -> Verdict:
    """The run at the highest rate that kept the SLO, or at the lowest that was tried."""
    rate = found.kept_per_s or found.broken_per_s
    return search.verdict(found.seed, search.requests(found.seed, rate), stop_at=TO_THE_END)


def _by_error_bars(search: RateSearch, found: SeedRate) -> tuple[float | None, float | None]:
    """Highest rates of a seed at which the upper, and the lower, ends of all error bars keep the limits, to its own."""
    if not has_limits(search.scenario.slo):
        return None, None
    seed = found.seed

    def holds(rate: float, end: str) -> bool:
        verdict = search.verdict(seed, search.requests(seed, rate), stop_at=1.0 if end == "high_s" else TO_THE_END)
        if end == "high_s" and not verdict.met:
            return False
        steady = verdict.growth is None or not verdict.growth.unstable
        steady = steady and (verdict.load is None or not verdict.load.too_much)
        return steady and all(getattr(limit, end) <= limit.limit_s for limit in verdict.limits)

    safe = search.highest(lambda rate: holds(rate, "high_s"), found.kept_per_s / NEAR, NEAR)
    hopeful = search.highest(lambda rate: holds(rate, "low_s"), found.broken_per_s * NEAR, NEAR)
    own = found.middle_per_s
    return min(1.0, safe[0] / own), max(1.0, hopeful[0] / own) if math.isfinite(hopeful[1]) else None


def _proved(search: RateSearch, found: SeedRate) -> float | None:
    """The rate above which the price model alone refuses a seed's requests, to one per cent."""
    low = found.kept_per_s or found.broken_per_s
    high = low
    for _ in range(12):
        high *= 1.5
        if search.too_much(search.requests(found.seed, high)):
            break
    else:
        return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        if search.too_much(search.requests(found.seed, middle)):
            high = middle
        else:
            low = middle
    return high


def _why_unbounded(so_far: Sustainable, search: RateSearch) -> list[str]:
    last = so_far.seeds[-1]
    if last.kept_per_s == 0.0:
        return [f"even {last.broken_per_s:.3g} requests/s break the SLO: it is the unloaded latency that misses it"]
    fixed = search.scenario.workload.duration_s is None or search.scenario.workload.num_requests is not None
    remedy = "; give workload.duration_s, so that a higher rate brings more requests" if fixed else ""
    return [f"nothing up to {last.kept_per_s:.3g} requests/s breaks the SLO, which was the highest rate tried{remedy}"]


def _seeds_change_nothing(search: RateSearch, seeds: list[SeedRate]) -> bool:
    first, second = (search.requests(one.seed, seeds[0].kept_per_s) for one in seeds[:2])
    return same_requests(first, second)
