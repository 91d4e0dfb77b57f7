"""The runs behind a plan of a row: each by its servers, seed and policy, simulated once, in worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hardware_models.errors import FleetcastError, ImpossibleError
from sim.plan.power.criteria import POINTS, PRIORITIES
from sim.scenario import Scenario
from sim.sweep.local import Done, LocalRunner
from sim.sweep.point import FAILED, INFEASIBLE, OK, Job, Outcome
from sim.sweep.schedule import Schedule

LIMITLESS = ""  # in place of a policy: the same servers behind a breaker that nothing nears
TIMEOUT_S = 4 * 3600.0  # of a run
COUNTS = (
    "hours", "row_peak_w", "breaker_trips", "brakes", "over_limit_s", "low_priority_locked_s", "high_priority_locked_s",
)  # fmt: skip
FIGURES = (*COUNTS, *(f"{priority}_{point}" for priority in PRIORITIES for point in POINTS))  # the latter in seconds


@dataclass(frozen=True, slots=True)
class Trial:
    """One run that is asked for."""

    servers: int
    seed: int
    policy: str  # of the registry, or LIMITLESS


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    figures: Mapping[str, float]  # FIGURES; NaN where no request has the priority
    refused: str = ""  # why the row cannot be


class Runner(Protocol):
    """Runs jobs somewhere."""

    def run(self, schedule: Schedule, job: Callable[[int], Job]) -> Iterable[Done | None]:
        """Each one's outcome as it comes, and None now and then."""
        ...


class Trials:
    """Simulates what is asked for and not known yet."""

    def __init__(self, runner: Runner, build: Callable[[Trial], Scenario], say: Callable[[str], None]) -> None:
        self.known: dict[Trial, Answer] = {}
        self.simulations = 0
        self._runner, self._build, self._say = runner, build, say
        self._began = time.monotonic()

    def ask(self, wanted: Iterable[Trial], why: str) -> None:
        """Have them in `known`; raises FleetcastError where a run gives no answer."""
        new = [trial for trial in dict.fromkeys(wanted) if trial not in self.known]
        groups: dict[tuple[int, int], int] = {}  # runs of the same requests go to one worker
        points = [(groups.setdefault((one.servers, one.seed), len(groups)), i) for i, one in enumerate(new)]
        done = 0
        for heard in self._runner.run(Schedule(points), lambda i: Job(i, "", self._build(new[i]).model_dump())):
            if heard is not None:
                job, outcome = heard
                self.known[new[job.index]] = _answer(new[job.index], outcome)
                done += 1
                self.simulations += outcome.status == OK
            passed_s = time.monotonic() - self._began
            self._say(f"{done} of {len(new)} runs: {why}; {self.simulations} simulations in {passed_s:,.0f} s")


def local_runner(workers: int) -> LocalRunner:
    """Processes of this machine, as sweeps use them; a context that ends them."""
    return LocalRunner(workers, TIMEOUT_S, simulate_row)


def simulate_row(job: Job) -> Outcome:
    """A worker's part: run a scenario and give its FIGURES; a row that cannot be is infeasible."""
    from sim.run import run
    from sim.sweep.request_cache import CACHE

    begin = time.perf_counter()
    scenario = Scenario.model_validate(job.tables)
    try:
        summary = run(scenario, requests=CACHE.requests(scenario.workload, scenario.seed)).summary
    except ImpossibleError as error:
        return Outcome(INFEASIBLE, str(error))
    if summary["power"] is None:
        return Outcome(INFEASIBLE, "the run ended before the row's first reading; give a longer workload.duration_s")
    figures = row_figures(summary["power"])
    return Outcome(OK, figures=tuple(figures[name] for name in FIGURES), wall_s=time.perf_counter() - begin)


def row_figures(power: Mapping[str, Any]) -> dict[str, float]:
    """FIGURES of a summary's entry "power"."""
    found = {name: float(power[name]) for name in COUNTS if name in power}
    found["row_peak_w"] = power["row_w"]["max"]
    found["hours"] = power["row_energy_j"] / power["row_w"]["mean"] / 3600.0
    for priority in PRIORITIES:
        latencies = power["by_priority"].get(priority, {})
        for point in POINTS:
            value = latencies.get(f"e2e_{point}_s")
            found[f"{priority}_{point}"] = float("nan") if value is None else value
    return found


def _answer(trial: Trial, outcome: Outcome) -> Answer:
    if outcome.status == FAILED:
        raise FleetcastError(f"plan: {trial.servers} servers with seed {trial.seed}: {outcome.reason}")
    if outcome.status == INFEASIBLE:
        return Answer({}, outcome.reason)
    return Answer(dict(zip(FIGURES, outcome.figures, strict=True)))
