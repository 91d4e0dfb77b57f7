"""What a point of a study can measure: any figure of a run's summary, and figures that only studies ask for."""

from __future__ import annotations

import math
from typing import Any

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.metrics import OFFLOAD_METRICS, SERVING_SUMMARY_METRICS, TRAINING_SUMMARY_METRICS, Metric, summary_metric
from sim.offload.inference_result import run_inference
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.plan.capacity import check_limits, find_capacity
from sim.power.clocks import FULL_CLOCKS, phase_clocks
from sim.power.metered_scenario import METERED_FIGURES, MeteredScenario, asked
from sim.power.stated_account import STATED_FIGURES, StatedAccount, accounted
from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import AnyScenario
from sim.serving.deployment import deploy
from sim.serving.single_step import step_seconds, step_watts
from sim.study_point import Point
from sim.training.result import run_training
from sim.training.study_figures import EXCHANGE, TRAINING_FIGURES, gradient_exchange_bytes_per_s
from sim.training_scenario import TrainingScenario

SERVING_FIGURES = ("capacity_per_s", "step_s", "step_w")
STEPS = {"step_s": step_seconds, "step_w": step_watts}  # figures of one step
StudyScenario = AnyScenario | MeteredScenario | StatedAccount


def check_metric(point: Point, where: str, *, training: bool, metered: bool = False) -> None:
    """Refuse a metric that such a study cannot measure; raises FleetcastError, which names `where`.

    training, metered: the study is one of training, or of metered work, not of serving.
    """
    if metered and point.metric not in METERED_FIGURES:
        raise UnknownNameError(f"{where}: metric", point.metric, METERED_FIGURES)
    if metered:
        return
    if (point.metric == EXCHANGE.key) != (point.payload_bytes is not None):
        raise FleetcastError(f"{where}: 'payload_bytes' goes with {EXCHANGE.key}, and that with it; give both")
    if training:
        if point.metric not in (names := (*TRAINING_SUMMARY_METRICS, *TRAINING_FIGURES, EXCHANGE.key)):
            raise UnknownNameError(f"{where}: metric", point.metric, names)
        if point.step is not None or point.limits:
            raise FleetcastError(f"{where}: 'step' and 'limits' belong to serving; leave them out of a training study")
        metric = study_metric(point.metric)
        if (
            point.baseline is None
            and point.published is not None
            and point.unit not in (metric.unit, metric.shown_unit)
        ):
            raise FleetcastError(
                f"{where}: unit = '{point.unit}': give {point.metric} in '{metric.shown_unit}' or '{metric.unit}'"
            )
    elif point.metric == "capacity_per_s":
        check_limits(point.limits, where)
    elif point.metric in STEPS:
        if point.step is None:
            raise FleetcastError(f"{where}: metric {point.metric} needs a 'step' table with the step's composition")
    elif point.metric not in SERVING_SUMMARY_METRICS:
        raise UnknownNameError(f"{where}: metric", point.metric, (*SERVING_SUMMARY_METRICS, *SERVING_FIGURES))


def check_account_metric(point: Point, where: str) -> None:
    """The same of a study that adds up what a paper states."""
    if point.metric not in STATED_FIGURES:
        raise UnknownNameError(f"{where}: metric", point.metric, STATED_FIGURES)


def check_offload_metric(point: Point, where: str) -> None:
    """The same of a study of offloaded inference."""
    if point.metric not in OFFLOAD_METRICS:
        raise UnknownNameError(f"{where}: metric", point.metric, OFFLOAD_METRICS)


def study_metric(key: str) -> Metric:
    """A metric by its key, of a summary or of studies alone; raises UnknownNameError."""
    if key in STATED_FIGURES:
        return STATED_FIGURES[key][0]
    if key in METERED_FIGURES:
        return METERED_FIGURES[key][0]
    if key == EXCHANGE.key:
        return EXCHANGE
    return TRAINING_FIGURES[key].metric if key in TRAINING_FIGURES else summary_metric(key, "metric")


def factor(point: Point) -> float:
    """By what a measured figure is multiplied to be in the point's unit: it may be the one in which reports show it."""
    if point.baseline is not None or point.metric == "capacity_per_s" or point.step is not None:
        return 1.0  # a ratio, or a figure that no report shows
    metric = study_metric(point.metric)
    return metric.shown_factor if point.unit == metric.shown_unit else 1.0


Summaries = dict[str, dict[str, Any]]  # of scenarios that were run already, by what they say


def measure(scenario: StudyScenario, point: Point, where: str, summaries: Summaries) -> float:
    """The point's figure of such a scenario; raises FleetcastError, which names `where`, for an impossible scenario or
    one that has no such figure. `summaries` is looked in, and added to.
    """
    try:
        value = _of(scenario, point, summaries)
    except FleetcastError as error:
        raise FleetcastError(f"{where}: {error}") from None
    if math.isnan(value):
        raise FleetcastError(f"{where}: the run has no '{point.metric}'; ask for a metric that it has")
    return value


def _of(scenario: StudyScenario, point: Point, summaries: Summaries) -> float:
    if isinstance(scenario, StatedAccount):
        return STATED_FIGURES[point.metric][1](accounted(scenario))
    if isinstance(scenario, MeteredScenario):
        return METERED_FIGURES[point.metric][1](asked(scenario))
    if isinstance(scenario, OffloadedInferenceScenario):
        said = repr(scenario)
        if said not in summaries:
            summaries[said] = run_inference(scenario).summary
        return summary_metric(point.metric, "metric").value(summaries[said])
    special = _of_training(scenario, point) if isinstance(scenario, TrainingScenario) else _of_serving(scenario, point)
    if special is not None:
        return special
    said = repr(scenario)
    if said not in summaries:
        result = run_training(scenario) if isinstance(scenario, TrainingScenario) else run(scenario)
        summaries[said] = result.summary
    return summary_metric(point.metric, "metric").value(summaries[said])


def _of_training(scenario: TrainingScenario, point: Point) -> float | None:
    """Figures that no summary has."""
    if point.payload_bytes is not None:
        return gradient_exchange_bytes_per_s(scenario, point.payload_bytes)
    if point.metric in TRAINING_FIGURES:
        return TRAINING_FIGURES[point.metric].value(scenario)
    return None


def _of_serving(scenario: Scenario, point: Point) -> float | None:
    """Figures that no summary has."""
    if point.metric == "capacity_per_s":
        return find_capacity(scenario, point.limits).rate_per_s
    if point.step is not None and point.metric in STEPS:
        deployment = deploy(scenario)
        clocks = phase_clocks(scenario.power, deployment.gpu) if scenario.power else FULL_CLOCKS
        clock = clocks.prefill if point.step.prefill_tokens else clocks.decode
        return STEPS[point.metric](deployment, clock, **point.step.model_dump())
    return None
