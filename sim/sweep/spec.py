"""A sweep file as a user writes it: frozen models; unknown keys are mistakes."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from hardware_models.errors import FleetcastError
from sim.scenario_errors import ACCEPTED
from sim.section import Section
from sim.sweep.axes import Axis, Choices, Method, Range

MOST_SAMPLES = 1_000_000


class RangeTable(Section):
    """`{ low = ..., high = ... }` of an axis."""

    low: float = Field(description="least value")
    high: float = Field(description="largest value")
    scale: Literal["linear", "log"] = Field(default="linear", description="log: equal ratios")
    integer: bool = Field(default=False, description="whole numbers only")
    points: int | None = Field(default=None, ge=1, le=MOST_SAMPLES, description="values of a grid")

    @model_validator(mode="after")
    def _in_order(self) -> RangeTable:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}; swap or widen them")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"low = {self.low:g}: a log scale has no zero; give a number above 0")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"low = {self.low:g}, high = {self.high:g}: give whole numbers, as integer = true")
        return self


class GoalTable(Section):
    """[goal]."""

    maximize: str | None = Field(default=None, min_length=1, description="metric to make large")
    minimize: str | None = Field(default=None, min_length=1, description="metric to make small")
    subject_to: list[str] = Field(default_factory=list, description="limits, such as 'ttft_s.p99 <= 500ms'")
    pareto: list[str] | None = Field(default=None, description="two metrics to trade against each other")


class SweepFile(Section):
    """The whole file."""

    schema_version: Literal[1] = Field(default=1, alias="schema", description="of this format")
    name: str = Field(default="", max_length=200, description="what reports call it; absent: the file's name")
    scenario: str | dict[str, Any] = Field(description="path of a scenario file, or its tables")
    method: Method = Field(default="grid", description="how settings are drawn")
    samples: int | None = Field(default=None, ge=1, le=MOST_SAMPLES, description="settings of random and lhs")
    sampling_seed: int = Field(default=0, ge=0, description="of the draws of random and lhs")
    seeds: list[int] | None = Field(default=None, min_length=1, description="each setting runs once with each")
    axes: dict[str, Any] = Field(description="keys of the scenario, with their values")
    constraints: list[str] = Field(default_factory=list, description="conditions that a setting keeps to be run")
    goal: GoalTable = GoalTable()
    point_timeout_s: float = Field(default=600.0, gt=0, le=1e7, description="seconds that a point may take")

    @model_validator(mode="after")
    def _consistent(self) -> SweepFile:
        drawn = self.method in ("random", "lhs")
        if drawn and self.samples is None:
            raise ValueError(f"method = '{self.method}' needs 'samples' beside it")
        if not drawn and self.samples is not None:
            raise ValueError(f"'samples' goes with method random or lhs; drop it, or '{self.method}'")
        seeds = self.seeds or []
        if len(set(seeds)) < len(seeds) or any(seed < 0 for seed in seeds):
            raise ValueError(f"seeds = {seeds}: give different whole numbers from 0 on")
        if not self.name.isprintable():
            raise ValueError(f"name = {self.name!r}: give one line of printable text")
        return self


KEYS = tuple(field.alias or name for name, field in SweepFile.model_fields.items())
RANGE_KEYS = tuple(RangeTable.model_fields)


def parse_sweep_file(data: dict[str, Any], path: Path) -> SweepFile:
    """Validate a sweep file's tables; raises FleetcastError naming key, value and remedy."""
    try:
        return SweepFile.model_validate(data)
    except ValidationError as error:
        raise FleetcastError(f"{path}: {_sentence(error, SweepFile)}") from None


def parse_axes(tables: dict[str, Any], method: Method, path: Path) -> tuple[Axis, ...]:
    """The axes of a file, in its order; raises FleetcastError."""
    axes = tuple(_axis(key, value, method, f"{path}: axes") for key, value in _flat(tables))
    if not axes:
        raise FleetcastError(f'{path}: axes: holds no key; give at least one, such as "serving.max_num_seqs" = [64]')
    for axis in axes:
        if isinstance(axis, Range) and method == "list":
            raise FleetcastError(f"{path}: axes: '{axis.key}' is a range; method 'list' needs a list of values")
        if isinstance(axis, Range) and method == "grid" and axis.points is None:
            raise FleetcastError(f"{path}: axes: '{axis.key}' is a range without 'points'; a grid needs it")
    lengths = {axis.key: len(axis.levels()) for axis in axes if isinstance(axis, Choices)}
    if method == "list" and len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise FleetcastError(f"{path}: axes: method 'list' takes the values in step, but there are: {shown}")
    return axes


def _flat(tables: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted key and value; `serving.x = [1]` without quotes is a nested table in TOML, and means the same."""
    found: list[tuple[str, Any]] = []
    for key, value in tables.items():
        if isinstance(value, dict) and not set(value) & set(RANGE_KEYS):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _axis(key: str, value: Any, method: Method, where: str) -> Axis:
    if key in ("seed", "name"):
        remedy = "give 'seeds' beside 'method'" if key == "seed" else "settings are told apart by their axes"
        raise FleetcastError(f"{where}: '{key}' is no axis; {remedy}")
    if not all(key.split(".")):
        raise FleetcastError(f"{where}: '{key}' is no key; write it as serving.max_num_seqs")
    if isinstance(value, list):
        if not value:
            raise FleetcastError(f"{where}: '{key}' is empty; give at least one value")
        repeated = [one for number, one in enumerate(value) if one in value[:number]]
        if repeated and method != "list":
            raise FleetcastError(f"{where}: '{key}' has {repeated[0]!r} twice; give each value once")
        return Choices(key, tuple(value))
    if isinstance(value, dict):
        try:
            table = RangeTable.model_validate(value)
        except ValidationError as error:
            raise FleetcastError(f"{where}: '{key}': {_sentence(error, RangeTable)}") from None
        return Range(key, table.low, table.high, table.scale == "log", table.integer, table.points)
    raise FleetcastError(f"{where}: '{key}' = {value!r}: give a list of values, or a range {{ low, high }}")


def _sentence(error: ValidationError, root: type[BaseModel]) -> str:
    """The complaint that explains most: a misspelt key before a missing one before a wrong value."""
    order = ("extra_forbidden", "missing")
    rank = {kind: number for number, kind in enumerate(order)}
    first = min(error.errors(), key=lambda one: rank.get(one["type"], len(rank)))
    parts = [str(part) for part in first["loc"]]
    key, kind = ".".join(part for part in parts if part not in ("str", "dict[str,any]")), first["type"]
    if kind == "extra_forbidden":
        return _unknown_key(parts, root)
    if kind == "missing":
        return f"'{key}' is missing; add it"
    if kind == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    return f"{key} = {_shown(first['input'])}: {_accepted(first)}"


def _accepted(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        return f"give {error['ctx']['expected']}"
    if error["type"] in ("list_type", "model_type", "model_attributes_type"):
        return "give a list" if error["type"] == "list_type" else "give a table"
    limits = {name: f"{limit:,.12g}" for name, limit in error.get("ctx", {}).items() if isinstance(limit, int | float)}
    return ACCEPTED[error["type"]].format(**limits) if error["type"] in ACCEPTED else error["msg"].lower()


def _unknown_key(parts: list[str], root: type[BaseModel]) -> str:
    *section, name = parts
    model = GoalTable if section == ["goal"] else root
    known = sorted(field.alias or key for key, field in model.model_fields.items())
    close = difflib.get_close_matches(name, known, n=1)
    prefix = "".join(f"{part}." for part in section)
    hint = f"did you mean '{prefix}{close[0]}'?" if close else f"known keys: {', '.join(known)}"
    return f"unknown key '{prefix}{name}'; {hint}"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
