"""A day's fleet: node types with what a node of each sustains, the cheapest number of each by the hour, and proof by
simulation that every hour keeps the SLO.

A fleet splits each hour's requests over its pools, one a node type, in proportion to their capacity, at random (a named
stream). Every pool of every distinct hour is simulated with its share. Where one misses the SLO, its type is rated
lower in hours of no more requests, and the fleet is chosen anew, until all hours keep it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hardware_models.errors import FleetcastError
from sim.plan.day_demand import HOUR_S, DayDemand
from sim.plan.demand import workload_at
from sim.plan.deployments import Layout
from sim.plan.fleet import Fleet, NodeType, Terms, cheapest_fleet, solver
from sim.plan.pools import PoolHour, Verifier, sampled
from sim.plan.prices import Prices
from sim.plan.rate_search import Note
from sim.plan.rating import MOST_RUNGS, Rated, Rater
from sim.plan.space import Space
from sim.plan.words import verdict_words
from sim.scenario import Scenario

ROUNDS = 24  # of rating down
RATED_REQUESTS, RATED_S = 10_000, 60.0  # that a rating sees at least, of a sample that has so many


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOptions:
    """How nodes are rented, and how finely capacities are searched."""

    boot_minutes: float = 10.0
    start_usd: float = 0.0
    reserved_ratio: float | None = None
    limits: dict[str, int] = field(default_factory=dict)  # node type -> nodes there are
    tolerance: float = 0.03  # of the capacities
    max_gpus: int | None = None  # at once
    sample_s: float = 600.0  # of each hour that are simulated, at least

    def __post_init__(self) -> None:
        if not 1.0 <= self.sample_s <= HOUR_S:
            raise FleetcastError(f"sample_s = {self.sample_s:g}: give 1 to {HOUR_S:g} seconds of an hour")

    @property
    def terms(self) -> Terms:
        """For the programme."""
        return Terms(boot_h=self.boot_minutes / 60.0, start_usd=self.start_usd, reserved_ratio=self.reserved_ratio)

    def most_rungs(self, layout: Layout) -> int:
        """Of a layout that there may be."""
        most = [MOST_RUNGS]
        if self.max_gpus is not None:
            most.append(self.max_gpus // layout.gpus(1))
        if layout.node.name in self.limits:
            most.append(self.limits[layout.node.name] // layout.nodes_a_rung)
        return min(most)


@dataclass(frozen=True, slots=True)
class Derated:
    """A type that simulation made rate lower in some hours."""

    node: str
    before_per_s: float
    after_per_s: float
    hours: int  # in so many
    why: str


@dataclass(frozen=True)
class DayPlan:
    """What `plan_day` found."""

    scenario: Scenario
    demand: DayDemand
    options: DayOptions
    prices: Prices
    rated: tuple[Rated, ...]
    left_out: dict[str, str]  # node type -> why it cannot serve
    fleet: Fleet | None
    single: Fleet | None  # the best of one type, scaled by the hour
    static: Fleet | None  # the best that runs all day
    hours: tuple[PoolHour, ...]
    derated: tuple[Derated, ...]
    simulations: int
    notes: tuple[str, ...]

    @property
    def found(self) -> bool:
        """Is there a fleet all of whose hours keep the SLO?"""
        return self.fleet is not None and all(hour.met for hour in self.hours)

    @property
    def energy_kwh(self) -> float | None:
        """Of the GPUs over the hours, as simulated; None where an hour was not."""
        total = 0.0
        for hour in self.hours:
            watts = None if hour.verdict is None else hour.verdict.summary.get("mean_power_w_per_gpu")
            if watts is None:
                return None
            total += watts * self._layout(hour.node).gpus(hour.rungs) * len(hour.hours) / 1e3
        return total

    def _layout(self, node: str) -> Layout:
        return next(one.layout for one in self.rated if one.layout.name == node)

    @property
    def simulated_s(self) -> tuple[float, float]:
        """Seconds of arrivals in the sample of an hour: the shortest and the longest; NaN where none was simulated."""
        seconds = [hour.simulated_s for hour in self.hours if hour.verdict is not None]
        return (min(seconds), max(seconds)) if seconds else (math.nan, math.nan)

    def ready(self) -> dict[str, Scenario]:
        """A scenario for each pool at its busiest, by file name; none for pools that no requests went to."""
        found = {}
        for name in dict.fromkeys(hour.node for hour in self.hours if hour.rate_per_s > 0.0):
            busiest = max((hour for hour in self.hours if hour.node == name), key=lambda hour: hour.rate_per_s)
            scenario = self._layout(name).scenario(self.scenario, busiest.rungs)
            asked = sampled(self.scenario, busiest.rate_per_s, max(self.options.sample_s, busiest.simulated_s))
            table = workload_at(asked.workload, asked.seed, busiest.rate_per_s)
            file = name.replace(" ", "-").lower()
            update = {"workload": table, "name": f"{self.scenario.name}-{file}"[:200]}
            found[f"pools/{file}.toml"] = scenario.model_copy(update=update)
        return found


def plan_day(
    scenario: Scenario,
    demand: DayDemand,
    space: Space | None = None,
    prices: Prices | None = None,
    options: DayOptions | None = None,
    note: Note = lambda _line: None,
) -> DayPlan:
    """Rate the space's node types, choose a fleet for each hour, and verify it.

    Raises FleetcastError for input that makes no sense, and where the solver is not installed. note: called with a line
    on how far it is.
    """
    space, prices, options = space or Space(), prices or Prices.read(), options or DayOptions()
    terms = options.terms
    solver()  # not after minutes of simulation
    layouts, notes = space.layouts(scenario, prices, priced=True)
    unknown = sorted(set(options.limits) - {one.node.name for one in layouts})
    if unknown:
        known = ", ".join(sorted({one.node.name for one in layouts}))
        raise FleetcastError(f"--limit {unknown[0]}: is none of the node types to choose from: {known}")
    rater = Rater(
        _rating_sample(scenario, demand.peak_per_s, options.sample_s),
        demand.peak_per_s,
        prices,
        options.tolerance,
        note,
        options.most_rungs,
    )
    rated, left_out = rater.rate(layouts)
    verifier = Verifier(scenario, demand, {one.layout.name: one.layout for one in rated}, note, options.sample_s)
    types, fleet, hours, derated = _verified(scenario, demand, options, rated, verifier, note)
    if fleet is None and types:
        notes.append("the limits on node types, or on GPUs, leave too little capacity for the busiest hour")
    rates, most = demand.rates_per_s, options.max_gpus
    singles = [cheapest_fleet([one], rates, terms, max_gpus=most) for one in types]
    single = min((one for one in singles if one is not None), key=lambda one: one.usd, default=None)
    static = cheapest_fleet(types, rates, terms, static=True, max_gpus=most)
    return DayPlan(
        scenario, demand, options, prices, tuple(rated), left_out, fleet, single, static, tuple(hours), tuple(derated),
        rater.simulations + verifier.simulations, tuple(notes),
    )  # fmt: skip


def _rating_sample(scenario: Scenario, peak_per_s: float, sample_s: float) -> Scenario:
    """As much of the busiest hour as tells a high percentile: a rating is only where the search for a fleet begins."""
    whole_s = max(sample_s, scenario.workload.duration_s or 0.0)
    free = scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"duration_s": None})})
    return sampled(free, peak_per_s, min(whole_s, max(RATED_S, RATED_REQUESTS / peak_per_s)))


def _verified(
    scenario: Scenario,
    demand: DayDemand,
    options: DayOptions,
    rated: Sequence[Rated],
    verifier: Verifier,
    note: Note,
) -> tuple[list[NodeType], Fleet | None, list[PoolHour], list[Derated]]:
    """Choose a fleet, simulate it, rate down what missed the SLO, until nothing does."""
    types = [_node_type(one, options, len(demand.rates_per_s)) for one in rated]
    fleet: Fleet | None = None
    hours: list[PoolHour] = []
    derated: list[Derated] = []
    for number in range(ROUNDS):
        note(f"fleet {number + 1}: solving for {len(types)} node types and {len(demand.rates_per_s)} hours")
        fleet = cheapest_fleet(types, demand.rates_per_s, options.terms, max_gpus=options.max_gpus)
        if fleet is None:
            return types, None, [], derated
        hours = verifier.verify(fleet)
        missed = [hour for hour in hours if not hour.met]
        if not missed:
            break
        types = _rated_down(types, demand, missed, derated, options.tolerance, scenario.slo.percentile)
    return types, fleet, hours, derated


def _node_type(one: Rated, options: DayOptions, hours: int) -> NodeType:
    limit = options.limits.get(one.layout.node.name)
    return NodeType(
        name=one.layout.name,
        capacity_per_s=one.capacity_per_s,
        usd_per_h=one.usd_per_h,
        limit=None if limit is None else limit // one.layout.nodes_a_rung,
        gpus=one.layout.gpus(1),
        by_hour=(one.capacity_per_s,) * hours,
    )


def _rated_down(
    types: Sequence[NodeType],
    demand: DayDemand,
    missed: Sequence[PoolHour],
    derated: list[Derated],
    tolerance: float,
    percentile: float,
) -> list[NodeType]:
    """Types whose pools missed the SLO in an hour: in hours of no more requests, each at less than the load of a node
    of the pool that did. Smaller pools sustain no more a node; of larger ones nothing is known.
    """
    result = []
    for one in types:
        rates = list(one.by_hour or ())
        for pool in (pool for pool in missed if pool.node == one.name):
            hour = pool.hours[0]
            before = rates[hour]
            after = min(before, pool.rate_per_s / pool.rungs) / (1.0 + tolerance)
            quieter = [h for h, rate in enumerate(demand.rates_per_s) if rate <= demand.rates_per_s[hour]]
            for h in quieter:
                rates[h] = min(rates[h], after)
            words = verdict_words(pool.verdict, percentile) if pool.verdict is not None else ""
            why = f"{pool.rungs} of them at {pool.rate_per_s:.3g} requests/s in hour {hour}: {words}"
            derated.append(Derated(one.name, before, after, len(quieter), why))
        result.append(replace(one, by_hour=tuple(rates)))
    return result
