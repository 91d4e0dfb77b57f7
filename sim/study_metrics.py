"""What a point of a study can measure: any figure of a run's summary, and figures that only studies ask for."""

from __future__ import annotations

import math

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.metrics import SERVING_SUMMARY_METRICS, TRAINING_SUMMARY_METRICS, Metric, summary_metric
from sim.plan.capacity import check_limits, find_capacity
from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import AnyScenario
from sim.serving.deployment import deploy
from sim.serving.single_step import step_seconds
from sim.study_point import Point
from sim.training.result import run_training
from sim.training.study_figures import TRAINING_FIGURES
from sim.training_scenario import TrainingScenario

SERVING_FIGURES = ("capacity_per_s", "step_s")


def check_metric(point: Point, where: str, *, training: bool) -> None:
    """Refuse a metric that such a study cannot measure; raises FleetcastError, which names `where`.

    training: the study is one of training, not of serving.
    """
    if training:
        if point.metric not in (names := (*TRAINING_SUMMARY_METRICS, *TRAINING_FIGURES)):
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
    elif point.metric == "step_s":
        if point.step is None:
            raise FleetcastError(f"{where}: metric step_s needs a 'step' table with the step's composition")
    elif point.metric not in SERVING_SUMMARY_METRICS:
        raise UnknownNameError(f"{where}: metric", point.metric, (*SERVING_SUMMARY_METRICS, *SERVING_FIGURES))


def study_metric(key: str) -> Metric:
    """A metric by its key, of a summary or of studies alone; raises UnknownNameError."""
    return TRAINING_FIGURES[key].metric if key in TRAINING_FIGURES else summary_metric(key, "metric")


def factor(point: Point) -> float:
    """By what a measured figure is multiplied to be in the point's unit: it may be the one in which reports show it."""
    if point.baseline is not None or point.metric == "capacity_per_s" or point.step is not None:
        return 1.0  # a ratio, or a figure that no report shows
    metric = study_metric(point.metric)
    return metric.shown_factor if point.unit == metric.shown_unit else 1.0


def measure(scenario: AnyScenario, point: Point, where: str) -> float:
    """The point's figure of such a scenario; raises FleetcastError, which names `where`, for an impossible scenario or
    one that has no such figure.
    """
    try:
        value = _of(scenario, point)
    except FleetcastError as error:
        raise FleetcastError(f"{where}: {error}") from None
    if math.isnan(value):
        raise FleetcastError(f"{where}: the run has no '{point.metric}'; ask for a metric that it has")
    return value


def _of(scenario: AnyScenario, point: Point) -> float:
    return _of_training(scenario, point) if isinstance(scenario, TrainingScenario) else _of_serving(scenario, point)


def _of_training(scenario: TrainingScenario, point: Point) -> float:
    if point.metric in TRAINING_FIGURES:
        return TRAINING_FIGURES[point.metric].value(scenario)
    return summary_metric(point.metric, "metric").value(run_training(scenario).summary)


def _of_serving(scenario: Scenario, point: Point) -> float:
    if point.metric == "capacity_per_s":
        return find_capacity(scenario, point.limits).rate_per_s
    if point.step is not None and point.metric == "step_s":
        return step_seconds(deploy(scenario), **point.step.model_dump())
    return summary_metric(point.metric, "metric").value(run(scenario).summary)
