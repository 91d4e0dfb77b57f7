"""From a sweep to its points: settings drawn, constraints kept, every scenario validated, each with its address.

A setting is a value an axis; a point is a setting with a seed. Everything that can be known to be wrong is found here,
before anything runs: mistakes (a key or a value that no scenario accepts) are errors, combinations that cannot be
(validation refuses them together) are infeasible points.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hardware_models.errors import FleetcastError
from sim.identity import HEX_DIGITS, scenario_id, simulator_fingerprint
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.scenario_errors import sentence
from sim.scenario_file import AnyScenario
from sim.sweep.axes import Choices, count, settings
from sim.sweep.constrained import Constrained
from sim.sweep.definition import Sweep
from sim.sweep.names import check_names
from sim.sweep.point import Job
from sim.sweep.tables import is_combination, mistake, scenario_tables
from sim.training_scenario import TrainingScenario

MOST_COMBINATIONS = 1_000_000  # looked at
COMBINATIONS_A_POINT = 10  # and no more than so many, most of which the constraints leave out
MOST_POINTS = 100_000  # run
NAME_TRIES = 200  # points in which a value may be refused before it is left to the run


@dataclass(frozen=True, slots=True)
class Point:
    """A setting with a seed."""

    index: int
    setting: int
    seed: int
    point_id: str
    group: int  # points of one group share a deployment's prices
    reason: str = ""  # why it is infeasible, where that is known already


@dataclass(frozen=True, slots=True)
class Points:
    """All points of a sweep."""

    sweep: Sweep
    settings: list[tuple[Any, ...]]  # a value an axis
    points: list[Point]
    excluded: int  # settings that a constraint keeps out
    repeated: int  # settings drawn more than once, counted once

    def __len__(self) -> int:
        return len(self.points)

    def job(self, index: int) -> Job:
        """What a worker needs of a point."""
        point = self.points[index]
        tables = scenario_tables(self.sweep, self.settings[point.setting], point.seed)
        return Job(index, point.point_id, tables)

    def assignment(self, point: Point) -> dict[str, Any]:
        """Axis key -> value."""
        return dict(zip(self.sweep.keys, self.settings[point.setting], strict=True))


def expand(sweep: Sweep, most_points: int = MOST_POINTS) -> Points:
    """Raises FleetcastError naming what is wrong and where; also for more than `most_points`, before they are made."""
    combinations = count(sweep.axes, sweep.method, sweep.samples)
    most = min(MOST_COMBINATIONS, COMBINATIONS_A_POINT * most_points)
    if combinations > most:
        raise FleetcastError(
            f"{sweep.origin}: axes: make {combinations:,} settings; at most {most:,} are looked at: give fewer values,"
            " or method = 'lhs' with samples"
        )
    kept, excluded, repeated = _kept(sweep)
    if not kept:
        why = f"the constraints keep out all {excluded:,} settings; loosen them"
        raise FleetcastError(f"{sweep.origin}: constraints: {why}")
    total = len(kept) * len(sweep.seeds)
    if total > most_points:
        raise FleetcastError(
            f"{sweep.origin}: axes: {len(kept):,} settings x {len(sweep.seeds):,} seeds make {total:,} points; at most"
            f" {most_points:,} are run: give fewer values, or method = 'lhs' with samples"
        )
    points = _resolved(sweep, kept)
    possible = [point for point in points if not point.reason]
    if not possible:
        raise FleetcastError(f"{sweep.origin}: no point is possible: {points[0].reason}")
    _check_names(sweep, kept, possible)
    return Points(sweep, kept, points, excluded, repeated)


def _kept(sweep: Sweep) -> tuple[list[tuple[Any, ...]], int, int]:
    """Settings that keep the constraints, how many do not, and how many came up again."""
    kept: list[tuple[Any, ...]] = []
    seen: set[str] = set()
    excluded = repeated = 0
    constrained = Constrained(sweep)
    for setting in settings(sweep.axes, sweep.method, sweep.samples, sweep.sampling_seed):
        if not constrained.keeps(setting):
            excluded += 1
            continue
        text = repr(setting)
        if text in seen:
            repeated += 1
        else:
            seen.add(text)
            kept.append(setting)
    return kept, excluded, repeated


def _resolved(sweep: Sweep, kept: list[tuple[Any, ...]]) -> list[Point]:
    groups: dict[str, int] = {}
    points: list[Point] = []
    for number, setting in enumerate(kept):
        for seed in sweep.seeds:
            tables = scenario_tables(sweep, setting, seed)
            reason = ""
            try:
                scenario = sweep.model.model_validate(tables)
                point_id = scenario_id(scenario)
                group = groups.setdefault(_deployment(scenario), len(groups))
            except ValidationError as error:
                if not is_combination(error):
                    raise mistake(sweep, error) from None
                reason, point_id, group = sentence(error, sweep.model), _impossible_id(tables), -1
            points.append(Point(len(points), number, seed, point_id, group, reason))
    return points


def _deployment(scenario: AnyScenario) -> str:
    """What the prices of a deployment depend on: points that agree in it are quicker in one worker."""
    if isinstance(scenario, OffloadedInferenceScenario):
        return repr((scenario.model, scenario.cluster, scenario.workload))
    if isinstance(scenario, TrainingScenario):
        return repr((scenario.model, scenario.cluster, scenario.training.tensor_parallel_size))
    serving = scenario.serving
    return repr(
        (scenario.model, scenario.cluster, serving.tensor_parallel_size, serving.pipeline_parallel_size, serving.engine)
    )


def _impossible_id(tables: dict[str, Any]) -> str:
    """The address of a scenario that validation refuses."""
    text = f"{simulator_fingerprint()} impossible {json.dumps(tables, sort_keys=True, default=str)}"
    return hashlib.sha256(text.encode()).hexdigest()[:HEX_DIGITS]


def _check_names(sweep: Sweep, kept: list[tuple[Any, ...]], possible: list[Point]) -> None:
    """Refuse a value that no point of the sweep can use, such as a model that no catalog has."""
    listed = [number for number, axis in enumerate(sweep.axes) if isinstance(axis, Choices)]
    accepted: set[tuple[int, str]] = set()
    failures: dict[tuple[int, str], list[str]] = {}
    some = False
    for point in _first_of_each_setting(possible):
        levels = [(number, repr(kept[point.setting][number])) for number in listed]
        open_ = [one for one in levels if one not in accepted and len(failures.get(one, ())) < NAME_TRIES]
        if some and not open_:
            continue
        try:
            check_names(sweep.model.model_validate(scenario_tables(sweep, kept[point.setting], point.seed)))
        except FleetcastError as error:
            for level in open_:
                failures.setdefault(level, []).append(str(error))
            if not listed:
                raise FleetcastError(f"{sweep.scenario_origin}: {error}") from None
        else:
            some = True
            accepted.update(levels)
    refused = {level: reasons for level, reasons in failures.items() if level not in accepted}
    for level, reasons in refused.items():
        key = sweep.keys[level[0]]
        if len(reasons) < NAME_TRIES and any(key in reason for reason in reasons):
            reason = next(reason for reason in reasons if key in reason)
            raise FleetcastError(f"{sweep.origin}: axes: {key} = {level[1]}: no point accepts it: {reason}")
    if refused and not some:
        raise FleetcastError(f"{sweep.scenario_origin}: {next(iter(refused.values()))[0]}")


def _first_of_each_setting(points: list[Point]) -> Iterator[Point]:
    last = -1
    for point in points:
        if point.setting != last:
            last = point.setting
            yield point
