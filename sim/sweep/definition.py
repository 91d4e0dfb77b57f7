"""A sweep ready to be expanded: base scenario, axes, seeds, constraints and goal, with every path made absolute.

Workers run elsewhere, and a sweep goes on from any folder.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware_models.errors import FleetcastError
from sim.metrics import Metric
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.scenario import Scenario
from sim.scenario_file import (
    apply_override,
    override_value,
    read_toml,
    resolve_paths,
    scenario_model,
    toml_value,
)
from sim.sweep.axes import Axis, Choices, Method, Range
from sim.sweep.columns import columns_of, metrics_of
from sim.sweep.expressions import Constraint, parse_constraint
from sim.sweep.goal import Goal, make_goal
from sim.sweep.spec import KEYS, SweepFile, parse_axes, parse_sweep_file
from sim.training_scenario import TrainingScenario

OVERRIDABLE = tuple(key for key in KEYS if key not in ("schema", "scenario"))


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was asked, resolved."""

    name: str
    origin: str  # the sweep's file, for messages
    scenario_origin: str  # the base scenario's
    base: dict[str, Any]  # tables of the scenario
    method: Method
    samples: int
    sampling_seed: int
    seeds: tuple[int, ...]
    axes: tuple[Axis, ...]
    constraints: tuple[Constraint, ...]
    goal: Goal
    point_timeout_s: float

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the axes."""
        return tuple(axis.key for axis in self.axes)

    @property
    def model(self) -> type[Scenario] | type[TrainingScenario] | type[OffloadedInferenceScenario]:
        """What its points are scenarios of."""
        return scenario_model(self.base)

    @property
    def metrics(self) -> dict[str, Metric]:
        """What they are measured in."""
        return metrics_of(self.base)

    @property
    def columns(self) -> tuple[str, ...]:
        """Values that its rows have."""
        return columns_of(self.base)

    def toml(self) -> str:
        """A sweep file that says the same from any folder."""
        lines = ["schema = 1", f"name = {toml_value(self.name)}", f'method = "{self.method}"']
        if self.method in ("random", "lhs"):
            lines += [f"samples = {self.samples}", f"sampling_seed = {self.sampling_seed}"]
        lines += [f"seeds = {toml_value(list(self.seeds))}", f"point_timeout_s = {self.point_timeout_s!r}"]
        if self.constraints:
            lines.append(f"constraints = {toml_value([constraint.text for constraint in self.constraints])}")
        lines += ["", "[axes]", *(f"{toml_value(axis.key)} = {_axis_toml(axis)}" for axis in self.axes)]
        lines += ["", "[goal]", f'{"maximize" if self.goal.maximize else "minimize"} = "{self.goal.metric.key}"']
        limits = [f"{limit.metric.key} {limit.comparison} {limit.value!r}" for limit in self.goal.limits]
        lines += [f"subject_to = {toml_value(limits)}", f"pareto = {toml_value([m.key for m in self.goal.pareto])}"]
        plain = {key: value for key, value in self.base.items() if not isinstance(value, dict)}
        lines += ["", "[scenario]", *(f"{key} = {toml_value(value)}" for key, value in plain.items())]
        for section, table in self.base.items():
            if isinstance(table, dict):
                lines += ["", f"[scenario.{section}]"]
                lines += [f"{key} = {toml_value(value)}" for key, value in table.items()]
        return "\n".join(lines) + "\n"


def load_sweep(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file and apply `key=value` overrides, of the sweep's own keys or else of the base scenario.

    Raises FleetcastError. Points are not looked at yet: see `sim.sweep.points.expand`.
    """
    path = Path(path)
    return make_sweep(read_toml(path), path, overrides)


def make_sweep(data: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """From the tables of a sweep file at `path`; raises FleetcastError."""
    data = copy.deepcopy(data)
    own = [text for text in overrides if text.partition("=")[0].split(".")[0].strip() in OVERRIDABLE]
    for override in own:
        _override(data, override)
    file = parse_sweep_file(data, path)
    base, origin = _base(file, path, [text for text in overrides if text not in own])
    try:
        asked = file.goal
        goal = make_goal(asked.maximize, asked.minimize, asked.subject_to, asked.pareto, metrics_of(base))
        constraints = tuple(parse_constraint(text) for text in file.constraints)
    except FleetcastError as error:
        raise FleetcastError(f"{path}: {error}") from None
    axes = tuple(_located(axis, path.parent) for axis in parse_axes(file.axes, file.method, path))
    seed = base.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise FleetcastError(f"{origin}: seed = {seed!r}: give a whole number from 0 on")
    return Sweep(
        file.name or path.stem,
        str(path),
        origin,
        base,
        file.method,
        file.samples or 0,
        file.sampling_seed,
        tuple(file.seeds or [seed]),
        axes,
        constraints,
        goal,
        file.point_timeout_s,
    )


def put(tables: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; raises FleetcastError where the way to it is a value."""
    *sections, last = key.split(".")
    for number, section in enumerate(sections):
        tables = tables.setdefault(section, {})
        if not isinstance(tables, dict):
            raise FleetcastError(f"'{key}': '{'.'.join(sections[: number + 1])}' is a value, not a table")
    tables[last] = value


def _override(data: dict[str, Any], override: str) -> None:
    key, found, text = override.partition("=")
    section, _, rest = key.strip().partition(".")
    if section == "axes" and rest and found:
        axes = data.setdefault("axes", {})
        if isinstance(axes, dict):
            axes[rest.strip().strip('"')] = override_value(text)
            return
    apply_override(data, override)


def _base(file: SweepFile, path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Tables of the base scenario with absolute paths, and where they come from."""
    if isinstance(file.scenario, dict):
        base, origin, folder = file.scenario, f"{path}: scenario", path.parent
    else:
        source = path.parent / file.scenario
        base, origin, folder = read_toml(source), str(source), source.parent
    if {"scenario", "axes"} <= set(base):
        raise FleetcastError(f"{path}: scenario = '{file.scenario}' is a sweep file; give a scenario file")
    for override in overrides:
        try:
            apply_override(base, override)
        except FleetcastError as error:
            close = difflib.get_close_matches(override.partition("=")[0], OVERRIDABLE, n=1)
            raise FleetcastError(f"{error}{f' (or {close[0]}, of the sweep)' if close else ''}") from None
    resolve_paths(base, folder.absolute())
    return base, origin


def _located(axis: Axis, folder: Path) -> Axis:
    """The same axis, its paths absolute."""
    if isinstance(axis, Range):
        return axis
    values = []
    for value in axis.values:
        tables: dict[str, Any] = {}
        put(tables, axis.key, copy.deepcopy(value))
        resolve_paths(tables, folder.absolute())
        for part in axis.key.split("."):
            tables = tables[part]
        values.append(tables)
    return Choices(axis.key, tuple(values))


def _axis_toml(axis: Axis) -> str:
    if isinstance(axis, Choices):
        return toml_value(list(axis.values))
    table: dict[str, Any] = {"low": axis.low, "high": axis.high}
    if axis.log:
        table["scale"] = "log"
    if axis.integer:
        table["integer"] = True
    if axis.points is not None:
        table["points"] = axis.points
    return toml_value(table)
