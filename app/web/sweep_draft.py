"""A sweep as a form holds it: short texts for axes and limits, turned into the tables of a sweep file and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.web.families import FAMILIES, OFFLOADED_INFERENCE, SERVING, TRAINING, Family, family_of
from app.web.forms.knobs import MISSING, leaves, lookup, scenario_groups
from hardware_models.errors import FleetcastError
from sim.scenario_file import override_value, toml_value
from sim.sweep.goal import DEFAULT_METRIC, OFFLOAD_METRIC, TRAINING_METRIC

RANGE = re.compile(r"\s*(\S+)\s+to\s+(\S+?)(\s+log)?(?:\s+in\s+(\d+))?\s*")
SPLIT = re.compile(r",(?![^\[{]*[\]}])")  # commas outside of lists and tables
METHODS = ("grid", "list", "lhs", "random")
DRAWN = ("lhs", "random")
METRICS = {TRAINING.model: TRAINING_METRIC, OFFLOADED_INFERENCE.model: OFFLOAD_METRIC}  # of a goal that names none


@dataclass
class SweepDraft:
    """What the widgets say; axes are pairs of a scenario's key and a text such as `64, 128` or `16 to 512 log in 6`."""

    name: str
    base: dict[str, Any]  # tables of the scenario
    axes: list[tuple[str, str]]
    method: str = "grid"
    samples: int = 50
    seeds: str = ""
    constraints: str = ""  # a line each
    direction: str = "minimize"
    metric: str = "ttft_s.p99"
    limits: str = ""  # a line each
    other: dict[str, Any] = field(default_factory=dict)  # keys of a sweep file that the form does not show

    def tables(self) -> dict[str, Any]:
        """The sweep file; raises FleetcastError for a text that is no axis or no seeds."""
        axes = {key: axis_value(key, text) for key, text in self.axes if key and text.strip()}
        if len(axes) < sum(bool(key and text.strip()) for key, text in self.axes):
            raise FleetcastError("axes: a key stands twice; give each one row")
        tables: dict[str, Any] = {**self.other, "schema": 1, "name": self.name, "method": self.method}
        if self.method in DRAWN:
            tables["samples"] = self.samples
        if self.seeds.strip():
            tables["seeds"] = _values(self.seeds)
        if constraints := _lines(self.constraints):
            tables["constraints"] = constraints
        goal = {**self.other.get("goal", {}), self.direction: self.metric, "subject_to": _lines(self.limits)}
        return tables | {"axes": axes, "goal": goal, "scenario": self.base}

    @classmethod
    def of_tables(cls, tables: dict[str, Any], base: dict[str, Any]) -> SweepDraft:
        """From a sweep file that has been validated, and its scenario's tables."""
        goal = dict(tables.get("goal", {}))
        direction = "minimize" if "minimize" in goal else "maximize"
        shown = {"schema", "name", "method", "samples", "seeds", "constraints", "goal", "axes", "scenario"}
        draft = cls(
            name=str(tables.get("name", "")) or "sweep",
            base=base,
            axes=[(key, axis_text(value)) for key, value in _flat_axes(tables["axes"])],
            method=tables.get("method", "grid"),
            samples=int(tables.get("samples", 50)),
            seeds=", ".join(str(seed) for seed in tables.get("seeds", [])),
            constraints="\n".join(tables.get("constraints", [])),
            direction=direction,
            limits="\n".join(goal.pop("subject_to", [])),
            other={key: value for key, value in tables.items() if key not in shown},
        )
        draft.metric = goal.pop(direction, METRICS.get(family_of(base).model, DEFAULT_METRIC))
        if goal:
            draft.other["goal"] = goal
        return draft


def axis_keys(family: Family = SERVING, base: Mapping[str, Any] | None = None) -> list[str]:
    """Keys of a scenario that a form offers as axes: all but what names a run and what is a table; of the policies of
    `base`, the keys that it gives.
    """
    knobs = [knob for group in scenario_groups(family.model) if group.name for knob in leaves(group.knobs)]
    found = []
    for knob in knobs:
        policy = lookup(base or {}, knob.key) if knob.kind == "policy" else MISSING
        own = [name for name in policy if name != "name"] if isinstance(policy, Mapping) else []
        found += [f"{knob.key}.name", *(f"{knob.key}.{name}" for name in own)] if knob.kind == "policy" else [knob.key]
    return found


def axis_value(key: str, text: str) -> Any:
    """A list of values, or a range; raises FleetcastError for a text that is neither."""
    found = RANGE.fullmatch(text)
    if found is None:
        return _values(text)
    low, high, log, points = found.groups()
    ends = [override_value(end) for end in (low, high)]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise FleetcastError(f"axes: {key} = '{text}': write a range as '16 to 512', '16 to 512 log' or '1 to 4 in 7'")
    try:
        table: dict[str, Any] = {"low": float(ends[0]), "high": float(ends[1])}
    except OverflowError:
        raise FleetcastError(
            f"axes: {key} = '{text[:40]}...': an end has too many digits; give one below 1e308"
        ) from None
    if log:
        table["scale"] = "log"
    if _is_whole(key, ends):
        table["integer"] = True
    return table | ({"points": int(points)} if points else {})


def _is_whole(key: str, ends: list[Any]) -> bool:
    """Does the key take whole numbers only? A policy's own key does, where both ends are whole."""
    groups = [group for family in FAMILIES for group in scenario_groups(family.model)]
    kinds = {knob.key: knob.kind for group in groups for knob in leaves(group.knobs)}
    return kinds[key] == "integer" if key in kinds else all(isinstance(end, int) for end in ends)


def axis_text(value: Any) -> str:
    """The text that `axis_value` reads back."""
    if not isinstance(value, dict):
        return ", ".join(_shown(one) for one in value)
    whole = bool(value.get("integer"))
    low, high = (f"{end:.0f}" if whole else repr(float(end)) for end in (value["low"], value["high"]))
    log = " log" if value.get("scale") == "log" else ""
    return f"{low} to {high}{log}" + (f" in {value['points']}" if "points" in value else "")


def _flat_axes(axes: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in axes.items():
        if isinstance(value, dict) and not {"low", "high"} & set(value):
            found += _flat_axes(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _values(text: str) -> list[Any]:
    return [override_value(part) for part in SPLIT.split(text) if part.strip()]


def _shown(value: Any) -> str:
    if isinstance(value, str) and override_value(value) == value and not set(value) & set(",[]{}"):
        return value
    return toml_value(value)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
