"""A day's fleet: node types with what a node of each sustains, the cheapest number of each by the hour, and proof by
simulation that every hour keeps the SLO.

A fleet splits each hour's requests over its pools, one a node type, in proportion to their capacity, at random (a named
stream). Every pool of every distinct hour is simulated with its share. Where one misses the SLO, its type is rated
lower and the fleet is chosen anew, until all hours keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hardware_models.errors import FleetcastError
from sim.plan.day_demand import DayDemand
from sim.plan.demand import workload_at
from sim.plan.deployments import Layout
from sim.plan.fleet import Fleet, NodeType, Terms, cheapest_fleet, solver
from sim.plan.pools import PoolHour, Verifier
from sim.plan.prices import Prices
from sim.plan.rate_search import Note
from sim.plan.rating import Rated, Rater
from sim.plan.space import Space
from sim.plan.words import verdict_words
from sim.scenario import Scenario

HOUR_SAMPLE_S = 600.0  # of an hour that is simulated, where the workload does not say how long it lasts
ROUNDS = 12  # of rating down


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOptions:
    """How nodes are rented, and how finely capacities are searched."""

    boot_minutes: float = 10.0
    start_usd: float = 0.0
    reserved_ratio: float | None = None
    limits: dict[str, int] = field(default_factory=dict)  # node type -> nodes there are
    tolerance: float = 0.03  # of the capacities

    @property
    def terms(self) -> Terms:
        """For the programme."""
        return Terms(boot_h=self.boot_minutes / 60.0, start_usd=self.start_usd, reserved_ratio=self.reserved_ratio)


@dataclass(frozen=True, slots=True)
class Derated:
    """A type that simulation made rate lower."""

    node: str
    before_per_s: float
    after_per_s: float
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
        """Of the GPUs over the day, as simulated; None where an hour was not."""
        total = 0.0
        for hour in self.hours:
            watts = None if hour.verdict is None else hour.verdict.summary.get("mean_power_w_per_gpu")
            if watts is None:
                return None
            total += watts * self._layout(hour.node).gpus(hour.rungs) * len(hour.hours) / 1e3
        return total

    def _layout(self, node: str) -> Layout:
        return next(one.layout for one in self.rated if one.layout.name == node)

    def ready(self) -> dict[str, Scenario]:
        """A scenario for each pool at its busiest, by file name."""
        found = {}
        for name in dict.fromkeys(hour.node for hour in self.hours):
            busiest = max((hour for hour in self.hours if hour.node == name), key=lambda hour: hour.rate_per_s)
            scenario = self._layout(name).scenario(self.scenario, busiest.rungs)
            asked = sampled(self.scenario)
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
    rater = Rater(sampled(scenario), demand.peak_per_s, prices, options.tolerance, note)
    rated, left_out = rater.rate(layouts)
    types = [_node_type(one, options) for one in rated]
    fleet: Fleet | None = None
    hours: list[PoolHour] = []
    derated: list[Derated] = []
    verifier = Verifier(sampled(scenario), demand, {one.layout.name: one.layout for one in rated}, note)
    for number in range(ROUNDS):
        note(f"fleet {number + 1}: solving for {len(types)} node types and {len(demand.rates_per_s)} hours")
        fleet = cheapest_fleet(types, demand.rates_per_s, terms)
        if fleet is None:
            notes.append("the limits on node types leave too little capacity for the busiest hour")
            break
        hours = verifier.verify(fleet)
        missed = [hour for hour in hours if not hour.met]
        if not missed:
            break
        types = _rated_down(types, missed, derated, options.tolerance, scenario.slo.percentile)
    singles = [cheapest_fleet([one], demand.rates_per_s, terms) for one in types]
    single = min((one for one in singles if one is not None), key=lambda one: one.usd_per_day, default=None)
    static = cheapest_fleet(types, demand.rates_per_s, terms, static=True)
    return DayPlan(
        scenario, demand, options, prices, tuple(rated), left_out, fleet, single, static, tuple(hours), tuple(derated),
        rater.simulations + verifier.simulations, tuple(notes),
    )  # fmt: skip


def sampled(scenario: Scenario) -> Scenario:
    """The scenario with as much of an hour as is simulated."""
    workload = scenario.workload
    if workload.duration_s is not None or workload.num_requests is not None:
        return scenario
    return scenario.model_copy(update={"workload": workload.model_copy(update={"duration_s": HOUR_SAMPLE_S})})


def _node_type(one: Rated, options: DayOptions) -> NodeType:
    limit = options.limits.get(one.layout.node.name)
    rungs = None if limit is None else limit // one.layout.nodes_a_rung
    return NodeType(name=one.layout.name, capacity_per_s=one.capacity_per_s, usd_per_h=one.usd_per_h, limit=rungs)


def _rated_down(
    types: Sequence[NodeType], missed: Sequence[PoolHour], derated: list[Derated], tolerance: float, percentile: float
) -> list[NodeType]:
    """Types whose pools missed the SLO, each at less than the least load a node of it that did."""
    result = []
    for one in types:
        mine = [hour for hour in missed if hour.node == one.name]
        if not mine:
            result.append(one)
            continue
        worst = min(mine, key=lambda hour: hour.rate_per_s / hour.rungs)
        after = min(one.capacity_per_s, worst.rate_per_s / worst.rungs) / (1.0 + tolerance)
        words = verdict_words(worst.verdict, percentile) if worst.verdict is not None else ""
        why = f"{worst.rungs} of them at {worst.rate_per_s:.3g} requests/s in hour {worst.hours[0]}: {words}"
        derated.append(Derated(one.name, one.capacity_per_s, after, why))
        result.append(NodeType(name=one.name, capacity_per_s=after, usd_per_h=one.usd_per_h, limit=one.limit))
    return result
