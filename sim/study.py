"""Studies: published results as scenarios, the published figure beside the simulated one.

A study file holds a base `[scenario]` and `[[point]]` tables: `set` (keys that differ), `metric`, and where the paper
gives one `published`, `unit` (the metric's own, or the one in which reports show it) and `source`; with `baseline` (an
earlier point's name) the figure is the ratio to that point.

The scenario is one of training where it has such a section, of offloaded inference where it has [offload] alone, else
of serving. Metrics: any figure of the summary of
such a run (`sim.metrics`). Of serving also `capacity_per_s` (highest rate, requests/s, within the point's `limits`),
`step_s` and `step_w` (seconds, and watts of a GPU, of one step of the composition in `step`); of training also those of
`sim.training.study_figures`. Where it has a section [work] it is metered work, asked for at another power limit or
clock (`sim.power.metered_scenario`); where it has [account], what a paper states is added up
(`sim.power.stated_account`). `[assumed]` names keys the paper leaves open, each with the values it may have
had; the result is then a band.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.power.metered_scenario import WORK, parse_metered
from sim.power.stated_account import ACCOUNT, parse_account
from sim.scenario_file import AnyScenario, apply_override, parse_any, read_toml, scenario_model
from sim.section import Section
from sim.study_metrics import (
    StudyScenario,
    Summaries,
    check_account_metric,
    check_metric,
    check_offload_metric,
    factor,
    measure,
)
from sim.study_point import Point, Step
from sim.training_scenario import TrainingScenario

__all__ = [
    "FOLDER",
    "Point",
    "Row",
    "Step",
    "Study",
    "load_study",
    "point_of",
    "run_study",
    "scenario_of",
    "study_names",
]

FOLDER = Path(__file__).parent.parent / "studies"


class Study(Section):
    """A study file."""

    title: str
    paper: str
    notes: str = ""
    scenario: dict[str, Any]
    assumed: dict[str, list[Any]] = Field(default_factory=dict)
    point: list[Point]

    @property
    def of_training(self) -> bool:
        """Is its scenario one of training, not of serving?"""
        return scenario_model(self.scenario) is TrainingScenario

    @property
    def of_offload(self) -> bool:
        """Is its scenario one of offloaded inference?"""
        return scenario_model(self.scenario) is OffloadedInferenceScenario

    @property
    def of_metered_work(self) -> bool:
        """Does it ask of metered work alone, which no page runs?"""
        return WORK in self.scenario

    @property
    def of_account(self) -> bool:
        """Does it add up what a paper states, which no page runs?"""
        return ACCOUNT in self.scenario

    @property
    def opens(self) -> bool:
        """Are its points scenarios that a page runs?"""
        return not (self.of_metered_work or self.of_account)


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
    in_sample: bool
    assumed: dict[str, Any] = field(default_factory=dict)  # the values, of those assumed, that gave `simulated`

    @property
    def error_fraction(self) -> float:
        """Distance of the simulated figure from the published one, or from the nearest end of its range, as a share
        of it; NaN where nothing was published.
        """
        if math.isnan(self.published_low):
            return math.nan
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
    _check_points(study, str(path))
    return study


def _check_points(study: Study, origin: str) -> None:
    """Refuse what would fail, or mislead, after minutes of simulation; raises FleetcastError naming the point."""
    earlier: list[str] = []
    for point in study.point:
        where = f"{origin}: point '{point.name}'"
        if point.name in earlier:
            raise FleetcastError(f"{where}: the name is given twice; give each point its own")
        if point.baseline is not None and point.baseline not in earlier:
            if point.baseline in (other.name for other in study.point):
                raise FleetcastError(f"{where}: baseline '{point.baseline}' must come before it; move that point up")
            raise UnknownNameError(f"{where}: baseline", point.baseline, earlier)
        if study.of_account:
            check_account_metric(point, where)
        elif study.of_offload:
            check_offload_metric(point, where)
        else:
            check_metric(point, where, training=study.of_training, metered=study.of_metered_work)
        if not all(published > 0 for published in _published(point) if not math.isnan(published)):
            raise FleetcastError(
                f"{where}: published = {point.published}: give figures above 0, from which an error can be a share"
            )
        earlier.append(point.name)


def point_of(study: Study, name: str, where: str) -> Point:
    """A point by its name; raises UnknownNameError, in which `where` says whose."""
    for point in study.point:
        if point.name == name:
            return point
    raise UnknownNameError(f"{where}: point", name, [point.name for point in study.point])


def run_study(name: str, points: tuple[str, ...] = (), overrides: tuple[str, ...] = ()) -> Iterator[Row]:
    """Simulate points (all, where none is named); yields rows as they are done.

    overrides: `key=value` as for a scenario, set in every scenario of the study, baselines' included. Raises
    FleetcastError naming the point where a scenario is impossible or has no value of the metric.
    """
    study = load_study(name)
    chosen = [point_of(study, point, f"study {name}") for point in points] or study.point
    corners = [dict(zip(study.assumed, values, strict=True)) for values in itertools.product(*study.assumed.values())]
    measured: dict[str, list[float]] = {}
    summaries: Summaries = {}
    known: dict[str, float] = {}  # a point that only divides another one's figure is not simulated again
    for point in study.point:
        if point not in chosen and all(point.name != other.baseline for other in chosen):
            continue
        where = f"study {name}, point '{point.name}'"
        measured[point.name] = [
            _measure(_asked(study, point, corner, where, overrides), point, where, known, summaries)
            for corner in corners
        ]
        if point in chosen:
            yield _row(name, point, corners, measured, where)


def _row(name: str, point: Point, corners: list[dict[str, Any]], measured: dict[str, list[float]], where: str) -> Row:
    values = measured[point.name]
    if point.baseline is not None:
        if not all(measured[point.baseline]):
            raise FleetcastError(
                f"{where}: its baseline '{point.baseline}' came out as 0; no ratio can be given, drop 'baseline'"
            )
        values = [a / b for a, b in zip(values, measured[point.baseline], strict=True)]
    values = [value * factor(point) for value in values]
    middle = sorted(values)[len(values) // 2]
    return Row(
        name,
        point.name,
        point.metric,
        point.unit,
        min(values),
        middle,
        max(values),
        *_published(point),
        point.source,
        point.in_sample,
        corners[values.index(middle)],
    )


def _published(point: Point) -> tuple[float, float]:
    if point.published is None:
        return math.nan, math.nan
    if isinstance(point.published, list):
        return min(point.published), max(point.published)
    return point.published, point.published


def scenario_of(
    study: Study, point: Point, assumed: Mapping[str, Any], where: str, overrides: tuple[str, ...] = ()
) -> AnyScenario:
    """What a point simulates, with values for what the study assumes; raises FleetcastError, which names `where`."""
    return parse_any(_tables(study, point, assumed), where, FOLDER, overrides)


def _asked(
    study: Study, point: Point, assumed: Mapping[str, Any], where: str, overrides: tuple[str, ...]
) -> StudyScenario:
    """The same, of a study of any kind."""
    if study.opens:
        return scenario_of(study, point, assumed, where, overrides)
    tables = _tables(study, point, assumed)
    for override in overrides:
        apply_override(tables, override)
    return (parse_account if study.of_account else parse_metered)(tables, where)


def _tables(study: Study, point: Point, assumed: Mapping[str, Any]) -> dict[str, Any]:
    tables = copy.deepcopy(study.scenario)
    for key, value in {**assumed, **point.set}.items():
        _assign(tables, key, value)
    return tables


def _measure(scenario: StudyScenario, point: Point, where: str, known: dict[str, float], summaries: Summaries) -> float:
    """The point's figure; `known` keeps it for points that ask the same again."""
    asked = repr((scenario, point.metric, point.step, sorted(point.limits.items()), point.payload_bytes))
    if asked not in known:
        known[asked] = measure(scenario, point, where, summaries)
    return known[asked]


def _assign(tables: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        tables = tables.setdefault(part, {})
    tables[last] = value
