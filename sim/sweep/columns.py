"""What a row of a sweep holds of a run's summary: every metric, and the ends of its 90 % interval where it has one.

A part has a column for every metric there is, so that any sweep can use any other's; results have those of the
sweep's kind of scenario alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from hardware_models.errors import UnknownNameError
from sim.metrics import OFFLOAD_METRICS, SERVING_SUMMARY_METRICS, SUMMARY_METRICS, TRAINING_SUMMARY_METRICS, Metric
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.scenario_file import scenario_model
from sim.training_scenario import TrainingScenario

PER_USER = "output_tokens_per_s_per_user"
SPEED = Metric(PER_USER, "output tokens a user", "tokens/s", "tokens/s", 1.0, True)
PER_USER_OF = "tpot_s.mean"  # its inverse
SERVING_METRICS: dict[str, Metric] = SERVING_SUMMARY_METRICS | {PER_USER: SPEED}
SWEEP_METRICS: dict[str, Metric] = SERVING_METRICS | OFFLOAD_METRICS | TRAINING_SUMMARY_METRICS

_POINTS = ("mean", "p50", "p90", "p95", "p99")
_RATES = (
    "duration_s",
    "request_throughput",
    "output_throughput",
    "total_token_throughput",
    "output_tokens_per_s_per_gpu",
    "request_goodput_per_s",
    "goodput_fraction",
    "cost_usd",
    "usd_per_million_output_tokens",
    "energy_j_per_output_token",
    "mean_power_w_per_gpu",
    "step_s",
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "samples_per_s",
    "usd_per_billion_tokens",
)
WITH_INTERVAL = tuple(
    key
    for key in SWEEP_METRICS
    if key in _RATES or key == PER_USER or (key.rpartition(".")[2] in _POINTS and not key.startswith("bound_by."))
)


def _columns(metrics: Iterable[str]) -> tuple[str, ...]:
    keys = tuple(metrics)
    return (*keys, *(f"{key}.{end}" for key in WITH_INTERVAL if key in keys for end in ("low", "high")))


VALUE_COLUMNS = _columns(SWEEP_METRICS)


def _of_kind(scenario: Mapping[str, Any]) -> dict[str, Metric]:
    kind = scenario_model(scenario)
    if kind is OffloadedInferenceScenario:
        return OFFLOAD_METRICS
    return TRAINING_SUMMARY_METRICS if kind is TrainingScenario else SERVING_METRICS


def metrics_of(scenario: Mapping[str, Any]) -> dict[str, Metric]:
    """What runs of such a scenario, given by its tables, are measured in."""
    return _of_kind(scenario)


def columns_of(scenario: Mapping[str, Any]) -> tuple[str, ...]:
    """Of VALUE_COLUMNS, those that runs of such a scenario have."""
    return _columns(_of_kind(scenario))


def sweep_metric(key: str, where: str, metrics: Mapping[str, Metric] = SWEEP_METRICS) -> Metric:
    """A metric by its dotted key; raises UnknownNameError, in which `where` says what asked for it."""
    if key not in metrics:
        raise UnknownNameError(where, key, metrics)
    return metrics[key]


def summary_values(summary: dict[str, Any]) -> tuple[float, ...]:
    """Of VALUE_COLUMNS, as stored; NaN where the summary has none."""
    values = {key: metric.value(summary) for key, metric in SUMMARY_METRICS.items()}
    values[PER_USER] = _inverse(values[PER_USER_OF])
    for key in WITH_INTERVAL:
        low, high = _interval(summary["interval_90"], PER_USER_OF if key == PER_USER else key)
        if key == PER_USER:
            low, high = _inverse(high), _inverse(low)
        values[f"{key}.low"], values[f"{key}.high"] = low, high
    return tuple(values[column] for column in VALUE_COLUMNS)


def _interval(intervals: Mapping[str, Any], key: str) -> tuple[float, float]:
    node: Any = intervals
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return (float(node[0]), float(node[1])) if isinstance(node, list) else (math.nan, math.nan)


def _inverse(value: float) -> float:
    return 1.0 / value if value > 0.0 else math.nan
