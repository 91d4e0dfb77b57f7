"""One point of a sweep: a scenario to run, and what came of it. This is all that a worker does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hardware_models.errors import FleetcastError, ImpossibleError, UnknownNameError

if TYPE_CHECKING:
    from sim.scenario_file import AnyScenario

OK, INFEASIBLE, FAILED = "ok", "infeasible", "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """What is sent to a worker."""

    index: int  # of the point in its sweep
    point_id: str
    tables: dict[str, Any]  # of the scenario; paths in it are absolute


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker sends back."""

    status: str  # ok, infeasible (no such deployment), failed (no answer: a crash, a time limit, a file gone)
    reason: str = ""
    grade: str = ""
    bottleneck: str = ""
    figures: tuple[float, ...] = field(default=(), repr=False)  # of VALUE_COLUMNS; empty without an answer
    wall_s: float = 0.0


Work = Callable[[Job], Outcome]


def run_point(job: Job) -> Outcome:
    """Simulate; a deployment that cannot be is infeasible, as its policies' keys may be.

    Whatever else goes wrong is raised, FleetcastError where the point's address is no longer that of its scenario.
    """
    from sim.identity import scenario_id
    from sim.scenario_file import scenario_model
    from sim.sweep.columns import summary_values

    start = time.perf_counter()
    scenario = scenario_model(job.tables).model_validate(job.tables)
    if scenario_id(scenario) != job.point_id:
        raise FleetcastError(
            "a file that the scenario names, or the simulator's code, is not as it was when the sweep began; start anew"
        )
    try:
        summary = _summary(scenario)
    except (ImpossibleError, UnknownNameError) as error:
        return Outcome(INFEASIBLE, str(error), wall_s=time.perf_counter() - start)
    wall_s = time.perf_counter() - start
    return Outcome(OK, "", summary["grade"], summary["bottleneck"], summary_values(summary), wall_s)


def _summary(scenario: AnyScenario) -> dict[str, Any]:
    """Of a run; requests that settings share are drawn once."""
    from sim.offload.inference_scenario import OffloadedInferenceScenario
    from sim.scenario import Scenario

    if isinstance(scenario, OffloadedInferenceScenario):
        from sim.offload.inference_result import run_inference

        return run_inference(scenario).summary
    if not isinstance(scenario, Scenario):
        from sim.training.result import run_training

        return run_training(scenario).summary
    from sim.run import run
    from sim.sweep.request_cache import CACHE

    return run(scenario, requests=CACHE.requests(scenario.workload, scenario.seed)).summary


def guarded(work: Work, job: Job) -> Outcome:
    """Whatever `work` raises is an outcome."""
    start = time.perf_counter()
    try:
        return work(job)
    except Exception as error:
        name = "" if isinstance(error, FleetcastError) else f"{type(error).__name__}: "
        reason = f"{name}{error}".partition("\n")[0]
        return Outcome(FAILED, reason[:500], wall_s=time.perf_counter() - start)
