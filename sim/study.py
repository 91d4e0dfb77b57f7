"""Studies: published results as scenarios, the published figure beside the simulated one.

A study file holds a base `[scenario]` and `[[point]]` tables: `set` (keys that differ), `metric`, and where the paper
gives one
`published`, `unit` and `source`; with `baseline` (another point's name) the figure is the ratio to that point.
Metrics: any key
of a summary; `capacity_per_s` (highest rate within the point's `limits`); `step_s` (one step of the composition in
`step`).
`[assumed]` names keys the paper leaves open, each with the values it may have had; the result is then a band.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.metrics import Metric
from sim.plan.capacity import find_capacity
from sim.run import run
from sim.scenario import Scenario, Section
from sim.scenario_file import parse_scenario, read_toml
from sim.serving.deployment import deploy
from sim.serving.single_step import step_seconds

FOLDER = Path(__file__).parent.parent / "studies"


class Step(Section):
    """The composition of one step, for `step_s`."""

    prefill_tokens: int = Field(default=0, ge=0)  # one prompt or chunk
    prefill_context: int = Field(default=0, ge=0)  # tokens of it done before
    decode_seqs: int = Field(default=0, ge=0)
    decode_context: int = Field(default=0, ge=0)  # tokens each


class Point(Section):
    """One figure of a study."""

    name: str
    set: dict[str, Any] = Field(default_factory=dict)
    metric: str
    step: Step | None = None
    limits: dict[str, float] = Field(default_factory=dict)  # metric -> largest value, for capacity_per_s
    baseline: str | None = None
    published: float | list[float] | None = None  # a figure, a [low, high] range, or nothing (a baseline)
    unit: str = ""
    source: str = ""


class Study(Section):
    """A study file."""

    title: str
    paper: str
    notes: str = ""
    scenario: dict[str, Any]
    assumed: dict[str, list[Any]] = Field(default_factory=dict)
    point: list[Point]


@dataclass(frozen=True, slots=True)
class Row:
    """One point, simulated; low and high span the assumed values, and are equal where nothing was assumed."""

    study: str
    point: str
    metric: str
    unit: str
    low: float
    simulated: float
    high: float
    published_low: float  # NaN where nothing was published; equal to published_high for a single figure
    published_high: float
    source: str

    @property
    def error_fraction(self) -> float:
        """Distance of the simulated figure from the published one, or from the nearest end of its range, as a share
        of it.
        """
        nearest = min(max(self.simulated, self.published_low), self.published_high)
        return (self.simulated - nearest) / nearest

    @property
    def bands_meet(self) -> bool:
        """Does the band of the assumed values overlap what was published?"""
        return self.low <= self.published_high and self.published_low <= self.high


def study_names() -> list[str]:
    """Every shipped study, as FAMILY/NAME."""
    return sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.glob("*/*.toml"))


def load_study(name: str) -> Study:
    """A shipped study by name, or a file by path; raises FleetcastError."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UnknownNameError("study", name, study_names())
    try:
        study = Study.model_validate(read_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise FleetcastError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    names = {point.name for point in study.point}
    for point in study.point:
        if point.baseline is not None and point.baseline not in names:
            raise UnknownNameError(f"{path}: baseline of point '{point.name}'", point.baseline, names)
    return study


def run_study(name: str) -> Iterator[Row]:
    """Simulate every point; yields rows as they are done."""
    study = load_study(name)
    corners = [dict(zip(study.assumed, values, strict=True)) for values in itertools.product(*study.assumed.values())]
    measured: dict[str, list[float]] = {}
    for point in study.point:
        measured[point.name] = [_measure(study, point, corner, name) for corner in corners]
        values = measured[point.name]
        if point.baseline is not None:
            values = [a / b for a, b in zip(values, measured[point.baseline], strict=True)]
        middle = sorted(values)[len(values) // 2]
        yield Row(
            name,
            point.name,
            point.metric,
            point.unit,
            min(values),
            middle,
            max(values),
            *_published(point),
            point.source,
        )


def _published(point: Point) -> tuple[float, float]:
    if point.published is None:
        return math.nan, math.nan
    if isinstance(point.published, list):
        return min(point.published), max(point.published)
    return point.published, point.published


def _measure(study: Study, point: Point, assumed: dict[str, Any], origin: str) -> float:
    tables = copy.deepcopy(study.scenario)
    for key, value in {**assumed, **point.set}.items():
        _assign(tables, key, value)
    scenario = parse_scenario(tables, f"study {origin}, point {point.name}", FOLDER)
    if point.metric == "capacity_per_s":
        return find_capacity(scenario, point.limits).rate_per_s
    if point.metric == "step_s":
        return _step(scenario, point)
    return Metric(point.metric, point.metric, "", "", 1.0, larger_is_better=True).value(run(scenario).summary)


def _step(scenario: Scenario, point: Point) -> float:
    if point.step is None:
        raise FleetcastError(f"point '{point.name}': metric step_s needs a 'step' table with the step's composition")
    return step_seconds(deploy(scenario), **point.step.model_dump())


def _assign(tables: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        tables = tables.setdefault(part, {})
    tables[last] = value
