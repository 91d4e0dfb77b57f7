"""What a sweep is for: a metric to make large or small, limits that a good point keeps, and two metrics to trade."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hardware_models.errors import FleetcastError
from sim.metrics import Metric
from sim.sweep.columns import PER_USER, SERVING_METRICS, sweep_metric

LIMIT = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*([A-Za-z%]*)\s*")
UNITS = {
    "s": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0},
    "": {"%": 0.01},
    "bytes": {"GB": 1e9, "GiB": 2.0**30, "MB": 1e6, "MiB": 2.0**20},
}
DEFAULT_METRIC = "output_tokens_per_s_per_gpu"
DEFAULT_PARETO = (DEFAULT_METRIC, PER_USER)
OFFLOAD_METRIC, OFFLOAD_PARETO = "output_throughput", ("output_throughput", "decode_step_s")
TRAINING_METRIC = "tokens_per_s_per_gpu"  # the default of training, and its trade-off
TRAINING_PARETO = (TRAINING_METRIC, "memory.peak_bytes")


@dataclass(frozen=True, slots=True)
class Limit:
    """A metric on the right side of a value, in the metric's stored unit."""

    metric: Metric
    comparison: str  # <=, >=, <, >
    value: float

    def keeps(self, value: float) -> bool:
        """Is a value within it? NaN is not."""
        comparisons = {
            "<=": value <= self.value,
            ">=": value >= self.value,
            "<": value < self.value,
            ">": value > self.value,
        }
        return comparisons[self.comparison]

    def excess(self, value: float) -> float:
        """How far a value is on the wrong side, as a share of the limit; 0 within it, infinite for NaN."""
        if math.isnan(value):
            return math.inf
        if self.keeps(value):
            return 0.0
        return abs(value - self.value) / abs(self.value) if self.value else abs(value)

    def text(self) -> str:
        """As a report has it."""
        return f"{self.metric.name} {self.comparison} {self.metric.text(self.value)}"


@dataclass(frozen=True, slots=True)
class Goal:
    """What the best point is best at."""

    metric: Metric
    maximize: bool
    limits: tuple[Limit, ...]
    pareto: tuple[Metric, Metric]
    given: bool  # in the sweep's file; otherwise the default

    def text(self) -> str:
        """As a report has it."""
        return f"{'highest' if self.maximize else 'lowest'} {self.metric.name}"


def parse_limit(text: str, metrics: Mapping[str, Metric] = SERVING_METRICS) -> Limit:
    """`ttft_s.p99 <= 500ms`; a bare number is in the metric's stored unit. Raises FleetcastError."""
    where = f"goal.subject_to '{text}'"
    match = LIMIT.fullmatch(text)
    if match is None:
        raise FleetcastError(f"{where}: is no limit; write one as 'ttft_s.p99 <= 0.5' or 'ttft_s.p99 <= 500ms'")
    key, comparison, number, unit = match.groups()
    metric = sweep_metric(key, where, metrics)
    try:
        value = float(number)
    except ValueError:
        raise FleetcastError(f"{where}: '{number}' is no number; write the limit as 'ttft_s.p99 <= 0.5'") from None
    if not math.isfinite(value):
        raise FleetcastError(f"{where}: '{number}' is not finite; give a number that a metric can reach")
    if unit and unit != metric.unit:
        known = UNITS.get(metric.unit, {})
        if unit not in known:
            accepted = f"give {', '.join(known)} or a bare number" if known else "give a bare number"
            raise FleetcastError(f"{where}: '{key}' has no unit '{unit}'; {accepted}")
        value *= known[unit]
    return Limit(metric, comparison, value)


def make_goal(
    maximize: str | None,
    minimize: str | None,
    subject_to: list[str],
    pareto: list[str] | None,
    metrics: Mapping[str, Metric] = SERVING_METRICS,
) -> Goal:
    """From the keys of [goal], for runs measured in `metrics`; raises FleetcastError."""
    if maximize is not None and minimize is not None:
        raise FleetcastError("goal: gives both 'maximize' and 'minimize'; give one of them")
    serving = DEFAULT_METRIC in metrics
    limits = tuple(parse_limit(text, metrics) for text in subject_to)
    training = TRAINING_METRIC in metrics
    key = maximize or minimize or (DEFAULT_METRIC if serving else TRAINING_METRIC if training else OFFLOAD_METRIC)
    metric = sweep_metric(key, f"goal.{'minimize' if minimize else 'maximize'}", metrics)
    if pareto is not None and len(set(pareto)) != 2:
        raise FleetcastError(f"goal.pareto = {pareto}: give two different metrics")
    default = DEFAULT_PARETO if serving else TRAINING_PARETO if training else OFFLOAD_PARETO
    first, second = (sweep_metric(name, "goal.pareto", metrics) for name in pareto or default)
    for one in (first, second):
        if one.larger_is_better is None:
            raise FleetcastError(f"goal.pareto: neither more nor less of '{one.key}' is better; give another metric")
    return Goal(metric, minimize is None, limits, (first, second), bool(maximize or minimize))
