"""The fewest, cheapest or thriftiest GPUs that serve a demand within its SLO: a proved optimum of a stated space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hardware_models.errors import FleetcastError
from sim.plan.demand import mean_rate, off_by, same_requests, workload_at
from sim.plan.deployments import OBJECTIVES, DeploymentLadder
from sim.plan.frame import Candidate, Outcome, Trial
from sim.plan.judge import TO_THE_END, Verdict, judge
from sim.plan.prices import Prices
from sim.plan.search import Search
from sim.plan.space import Space
from sim.plan.sustainable import criterion
from sim.scenario import Scenario
from sim.workload import load_requests
from workloads.request import RequestTable


@dataclass(frozen=True)
class Plan:
    """What `plan_serving` found."""

    scenario: Scenario  # as asked, at the demand
    rate_per_s: float  # of the requests that were simulated
    requests: int
    minimize: str
    criterion: str
    outcome: Outcome
    prices: Prices
    confirmations: tuple[tuple[int, Verdict], ...]  # the winner with other seeds
    notes: tuple[str, ...]
    best: Scenario | None = field(default=None, repr=False)  # ready to run

    @property
    def winner(self) -> Candidate | None:
        """The answer; None: nothing in the space keeps the SLO."""
        return self.outcome.winner

    @property
    def trial(self) -> Trial | None:
        """Its simulation."""
        return self.winner.best if self.winner is not None else None

    @property
    def nearest(self) -> Candidate | None:
        """Where there is no answer: the candidate that missed by least."""
        seen = [candidate for candidate in self.outcome.candidates if candidate.nearest is not None]
        return min(seen, key=lambda c: c.nearest.miss if c.nearest else 0.0, default=None)


def ladder(candidate: Candidate) -> DeploymentLadder:
    """A candidate's deployment."""
    found = candidate.ladder
    assert isinstance(found, DeploymentLadder)
    return found


def plan_serving(
    scenario: Scenario,
    space: Space | None = None,
    *,
    rate_per_s: float | None = None,
    minimize: str = "cost",
    prices: Prices | None = None,
    exhaustive: bool = False,
    confirm: int = 2,
    progress: Callable[[Search], None] = lambda _search: None,
) -> Plan:
    """Search the space for what serves the scenario's workload, or `rate_per_s` of it.

    minimize: "cost" (USD/h of whole nodes), "gpus" or "energy" (mean watts of all GPUs). exhaustive: simulate every
    number of nodes that no proof excludes, instead of taking more nodes to be never worse. confirm: further seeds with
    which the winner is simulated. Raises FleetcastError for input that makes no sense; a space without an answer is a
    Plan without a winner.
    """
    if minimize not in OBJECTIVES:
        raise FleetcastError(f"minimize = '{minimize}': give one of {', '.join(OBJECTIVES)}")
    space, prices = space or Space(), prices or Prices.read()
    if rate_per_s is not None:
        workload = workload_at(scenario.workload, scenario.seed, rate_per_s)
        scenario = scenario.model_copy(update={"workload": workload})
    requests = load_requests(scenario.workload, scenario.seed)
    layouts, notes = space.layouts(scenario, prices, priced=minimize == "cost")
    if rate_per_s is not None and (note := off_by(rate_per_s, requests)):
        notes.append(note)
    ladders = [DeploymentLadder(one, scenario, requests, prices, minimize, space.max_gpus) for one in layouts]
    unit = OBJECTIVES[minimize]
    search = Search(
        ladders,
        show=lambda value: f"{value:,.4g} {unit}",
        settled=minimize != "energy",
        exhaustive=exhaustive,
        progress=progress,
    )
    outcome = search.run()
    best, seeds = None, []
    if outcome.winner is not None and outcome.winner.best is not None:
        best = ladder(outcome.winner).scenario(outcome.winner.best.rung)
        best = best.model_copy(update={"name": f"{scenario.name}-planned"[:200]})
        seeds = _confirmed(best, requests, confirm)
        if confirm and not seeds:
            notes.append("every seed has the same requests: the answer was not simulated with other seeds")
    return Plan(
        scenario, mean_rate(requests), len(requests), minimize, criterion(scenario), outcome, prices, tuple(seeds),
        tuple(notes), best,
    )  # fmt: skip


def _confirmed(best: Scenario, requests: RequestTable, count: int) -> list[tuple[int, Verdict]]:
    """The winner with other seeds, where these change the requests."""
    found: list[tuple[int, Verdict]] = []
    for seed in range(best.seed + 1, best.seed + 1 + count):
        other = load_requests(best.workload, seed)
        if same_requests(other, requests):
            break
        found.append((seed, judge(best.model_copy(update={"seed": seed}), other, stop_at=TO_THE_END)))
    return found
