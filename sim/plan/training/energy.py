"""What a longer step saves of energy: the frontier of a training plan by clocks of its passes, and other ways.

Every point is the plan's own step, simulated: passes at Perseus's clocks for lengths of the iteration from the shortest
to the cheapest, EnvPipe's clocks, one clock for all GPUs, and one power limit for all of them, which is all that Zeus
can set once the batch is given (arXiv 2208.06102).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from hardware_models import catalog
from hardware_models.energy_account import HOUR_S
from hardware_models.errors import FleetcastError, ImpossibleError
from policies.power.perseus import frontier
from policies.power.perseus_baselines import envpipe
from sim.training.clock_frontier import LOWEST, STEP_MHZ, ClockPrices, pipeline_of
from sim.training.energy_account import step_account
from sim.training.node_mapping import deploy_mapped
from sim.training.power_limit import PowerLimits, pass_watts, sustained_clock
from sim.training.simulate import TrainingRun, simulate_at
from sim.training.stage_clocks import PassClocks, at_highest_clocks, check_clocks, planned_clocks
from sim.training.step_graph import slot_times
from sim.training.step_power import StepPower
from sim.training_power_section import TrainingPowerSection
from sim.training_scenario import TrainingScenario

BOOST, PERSEUS, ENVPIPE, ONE_CLOCK, LIMIT = "as fast as may be", "perseus", "envpipe", "one clock", "power limit"
POINTS = 8  # of the frontier, and of each sweep beside it


@dataclass(frozen=True, slots=True)
class EnergyPoint:
    """A step of the plan at some setting."""

    by: str
    setting: str  # in words, empty where there is nothing to set
    power: TrainingPowerSection  # that sets it
    step_s: float
    gpu_j: float  # of a step, all GPUs of the plan
    site_j: float  # of a step, the whole cluster and its site
    electricity_usd: float
    gpu_usd: float | None  # GPUs' hours; None: nobody says what they cost

    @property
    def usd(self) -> float:
        """Both."""
        return self.electricity_usd + (self.gpu_usd or 0.0)


@dataclass(frozen=True, slots=True)
class EnergyPlan:
    """The answer."""

    scenario: TrainingScenario
    points: list[EnergyPoint]  # the fastest that GPUs may first
    chosen: EnergyPoint
    limit_s: float | None
    gpu_usd_per_h: float | None
    notes: list[str] = field(default_factory=list)

    @property
    def boost(self) -> EnergyPoint:
        """Every GPU as fast as it may be."""
        return self.points[0]

    @property
    def best(self) -> TrainingScenario:
        """A scenario that runs what was chosen."""
        return self.scenario.model_copy(update={"power": self.chosen.power})

    def on_front(self, point: EnergyPoint) -> bool:
        """Is no other point as short and as cheap, and better in one of both?"""
        return not any(
            other.step_s <= point.step_s and other.site_j <= point.site_j
            and (other.step_s, other.site_j) != (point.step_s, point.site_j)
            for other in self.points
        )  # fmt: skip


def plan_energy(
    scenario: TrainingScenario,
    *,
    limit_s: float | None = None,
    gpu_usd_per_h: float | None = None,
    progress: Callable[[str], None] = lambda _text: None,
) -> EnergyPlan:
    """The scenario's own plan at every setting; chosen: the least energy of the site within `limit_s`, else the least
    that electricity and GPUs' hours cost (None: as the catalog has it).

    Raises ImpossibleError for a plan that cannot be, and for a limit that no setting keeps.
    """
    if scenario.offload is not None:
        raise ImpossibleError("--energy: a step with [offload] has no pipeline to slow down; leave --energy out")
    if limit_s is not None and gpu_usd_per_h is not None:
        raise FleetcastError("--step-limit and --gpu-usd-per-h each say what is best; give one of them")
    if limit_s is not None and not 0.0 < limit_s < math.inf:
        raise FleetcastError(f"--step-limit {limit_s:g}: give seconds above 0")
    if gpu_usd_per_h is not None and not 0.0 <= gpu_usd_per_h < math.inf:
        raise FleetcastError(f"--gpu-usd-per-h {gpu_usd_per_h:g}: give USD an hour, 0 or more")
    plain = at_highest_clocks(scenario)
    deployment, mapping = deploy_mapped(plain)
    gpu = deployment.gpu
    price = catalog.price_usd_per_gpu_h(gpu.variation_of or gpu.name) if gpu_usd_per_h is None else gpu_usd_per_h
    points: list[EnergyPoint] = []
    notes = _price_notes(gpu.name, price, given=gpu_usd_per_h is not None)
    prices = ClockPrices(deployment)

    def add(by: str, setting: str, clocks: PassClocks | None, keys: dict[str, object]) -> None:
        progress(f"{len(points)} steps simulated")
        run = simulate_at(deployment, clocks, mapping)
        points.append(_point(by, setting, run, _changed(plain, keys), price))

    add(BOOST, "", None, {})
    if deployment.layout.pp == 1:
        notes.append("there is one pipeline stage: no pass waits for another, and all share one clock")
    else:
        check_clocks(deployment)
        for setting, clocks, choice in _choices(prices):
            add(clocks.name, setting, clocks, {"stage_clocks": choice})
    for mhz in _clocks_mhz(prices):
        progress(f"{len(points)} steps simulated")
        locked = _changed(plain, {"clock_mhz": mhz})
        varied, placed = deploy_mapped(locked)
        points.append(_point(ONE_CLOCK, f"{mhz:,.0f} MHz", simulate_at(varied, None, placed), locked, price))
    for watts in _limits_w(prices):
        add(LIMIT, f"{watts:,.0f} W", _limited(prices, watts), {"gpu_power_limit_w": float(watts)})
    chosen = _choose(points, limit_s)
    if chosen.by == LIMIT:
        notes.append("under a limit each pass has its own clock here; a run holds one clock, their mean, for all")
    return EnergyPlan(scenario, points, chosen, limit_s, price, notes)


def _choices(prices: ClockPrices) -> Iterator[tuple[str, PassClocks, dict[str, object]]]:
    """Clocks pass by pass: what they are for, in words, and the key of the scenario that asks for them."""
    pipeline = pipeline_of(prices.deployment, prices)
    found, seen = frontier(pipeline), set()
    for length_s in np.linspace(found.shortest_s, max(found.shortest_s, found.cheapest_s), POINTS).tolist():
        planned = found.run(length_s)
        if planned.clocks in seen:
            continue
        seen.add(planned.clocks)
        slowdown = max(0.0, length_s / found.shortest_s - 1.0)
        choice = {"name": PERSEUS, "slowdown": slowdown}
        yield f"passes {slowdown:.1%} longer", planned_clocks(prices, pipeline, planned, PERSEUS), choice
    yield "", planned_clocks(prices, pipeline, envpipe(pipeline), ENVPIPE), {"name": ENVPIPE}


def _clocks_mhz(prices: ClockPrices) -> list[float]:
    """That all GPUs can share, below the one at which the step is fastest."""
    lowest_mhz, highest_mhz = LOWEST * prices.boost_mhz, prices.deployment.clock * prices.boost_mhz
    wanted = np.linspace(highest_mhz, lowest_mhz, POINTS + 1)[1:].tolist()
    return sorted({STEP_MHZ * max(1, round(mhz / STEP_MHZ)) for mhz in wanted}, reverse=True)


def _limits_w(prices: ClockPrices) -> list[float]:
    """From below the GPUs' own down to what the hungriest pass draws at the lowest clock."""
    deployment, works = prices.deployment, prices.at(LOWEST * prices.boost_mhz)
    least_w = max(
        pass_watts(spent, spent.seconds, deployment.gpu, math.inf, LOWEST)
        for work in works
        for spent in work.by_pass().values()
        if spent.seconds > 0.0
    )
    most_w = deployment.limits.watts
    return [math.ceil(watts) for watts in np.linspace(most_w, least_w, POINTS + 1)[1:].tolist() if watts < most_w]


def _limited(prices: ClockPrices, limit_w: float) -> PassClocks:
    """Every pass at the clock to which the limit holds it, as the hardware does within milliseconds."""
    deployment = prices.deployment
    layout, limits = deployment.layout, PowerLimits(limit_w, deployment.clock)
    sustained = {
        (kind, stage): prices.boost_mhz * sustained_clock(spent, deployment.gpu, limits)
        for stage, work in enumerate(prices.at(prices.boost_mhz))
        for kind, spent in work.by_pass().items()
    }
    rounded = {key: STEP_MHZ * max(1, math.floor(mhz / STEP_MHZ + 1e-9)) for key, mhz in sustained.items()}
    programs = deployment.schedule.programs(layout.pp, layout.micro_batches, slot_times(deployment))
    return PassClocks(LIMIT, {slot: rounded[slot.work, slot.stage] for slot in chain(*programs)}, prices)


def _changed(scenario: TrainingScenario, keys: dict[str, object]) -> TrainingScenario:
    """With other keys of [power]."""
    power = (scenario.power or TrainingPowerSection()).model_dump() | keys
    return scenario.model_copy(update={"power": TrainingPowerSection.model_validate(power)})


def _point(
    by: str, setting: str, run: TrainingRun, scenario: TrainingScenario, usd_per_gpu_h: float | None
) -> EnergyPoint:
    deployment, step = run.deployment, StepPower.of(run)
    tokens = deployment.layout.global_batch * scenario.training.seq_length
    energy = step_account(deployment, step.parts_j, step.cluster.mean_w, run.step_s, tokens)
    return EnergyPoint(
        by,
        setting,
        scenario.power or TrainingPowerSection(),
        run.step_s,
        sum(step.parts_j.values()),
        energy["site_j"],
        energy["usd_per_billion_tokens"] * tokens / 1e9,
        None if usd_per_gpu_h is None else usd_per_gpu_h * deployment.cluster_gpus * run.step_s / HOUR_S,
    )


def _choose(points: list[EnergyPoint], limit_s: float | None) -> EnergyPoint:
    if limit_s is None:
        return min(points, key=lambda point: (point.usd, point.step_s))
    within = [point for point in points if point.step_s <= limit_s]
    if not within:
        least_s = min(point.step_s for point in points)
        raise ImpossibleError(
            f"--step-limit {limit_s:g}: the shortest step takes {least_s:.4g} s; give as much or more"
        )
    return min(within, key=lambda point: (point.site_j, point.step_s))


def _price_notes(gpu: str, price: float | None, *, given: bool) -> list[str]:
    if price is None:
        return [f"{gpu} has no list price: hours cost nothing here, electricity does; give --gpu-usd-per-h"]
    if given:
        return []
    return [
        f"a GPU-hour costs {price:g} USD, the list price of renting one, which holds its electricity already; give"
        " --gpu-usd-per-h for what an hour costs without it"
    ]
