"""What a form asks, read off the models: a knob a field, with its limits, choices, unit and description."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sim.metrics import plain
from sim.scenario import Scenario
from sim.section import PolicyChoice

Kind = Literal["integer", "number", "flag", "text", "choice", "policy", "section", "toml"]
KINDS: dict[Any, Kind] = {bool: "flag", int: "integer", float: "number", str: "text"}
UNITS = {
    "_bytes_per_s": "bytes/s",
    "_flop_per_s": "FLOP/s",
    "_usd_per_h": "USD/h",
    "_fraction": "fraction",
    "_bytes": "bytes",
    "_usd": "USD",
    "_gib": "GiB",
    "_mhz": "MHz",
    "_hz": "Hz",
    "_s": "s",
    "_h": "h",
    "_w": "W",
    "_j": "J",
}
MISSING = object()  # no default: the key is required


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One key of a scenario, or of a policy's table."""

    key: str  # dotted
    kind: Kind
    description: str = ""
    optional: bool = False  # may be absent
    default: Any = MISSING
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    family: type[Any] | None = None  # of a policy: the protocol that its registry serves, or the section that has it
    knobs: tuple[Knob, ...] = ()  # of a section within a section

    @property
    def name(self) -> str:
        """The key without its tables."""
        return self.key.rpartition(".")[2]

    @property
    def label(self) -> str:
        """The name, its unit apart."""
        for suffix, unit in UNITS.items():
            if self.name.endswith(suffix):
                return f"{self.name.removesuffix(suffix)}, {unit}"
        return self.name

    @property
    def help(self) -> str:
        """Description, limits and the key as a scenario file has it."""
        low, high = (None if limit is None else plain(limit) for limit in (self.low, self.high))
        limits = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}" if high else ""
        said = "; ".join(part for part in (self.description, limits) if part)
        return f"{said} (`{self.key}`)" if said else f"`{self.key}`"


@dataclass(frozen=True, slots=True)
class Group:
    """A section of a scenario; the nameless one holds the keys before all sections."""

    name: str
    description: str
    optional: bool
    knobs: tuple[Knob, ...]


def scenario_groups(model: type[BaseModel] = Scenario) -> list[Group]:
    """All that a scenario may say, in its order."""
    loose: list[Knob] = []
    groups: list[Group] = []
    for name, field in model.model_fields.items():
        section, optional = _section(field)
        if section is None:
            loose.append(_field_knob(name, field))
        else:
            groups.append(Group(name, _first_line(section), optional, tuple(_section_knobs(section, f"{name}."))))
    return [Group("", "what reports call the run, and what is drawn by chance", False, tuple(loose)), *groups]


def leaves(knobs: Sequence[Knob]) -> Iterator[Knob]:
    """Knobs that hold a value, those of sections within sections among them."""
    for knob in knobs:
        if knob.kind == "section":
            yield from leaves(knob.knobs)
        else:
            yield knob


def dataclass_knobs(kind: type[Any], prefix: str, given: Sequence[str] = ()) -> list[Knob]:
    """The fields of a policy's class, but for those that the run gives it."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for field in dataclasses.fields(kind):
        if field.name not in given:
            default = field.default if field.default is not dataclasses.MISSING else MISSING
            found.append(_knob(f"{prefix}{field.name}", hints[field.name], default))
    return found


def _section_knobs(model: type[BaseModel], prefix: str) -> list[Knob]:
    found: list[Knob] = []
    for name, field in model.model_fields.items():
        section, optional = _section(field)
        key = f"{prefix}{name}"
        if section is not None and not optional:
            found += _section_knobs(section, f"{key}.")
            continue
        knob = _field_knob(key, field)
        if section is not None:
            knob = dataclasses.replace(knob, kind="section", knobs=tuple(_section_knobs(section, f"{key}.")))
        elif knob.kind == "policy":
            knob = dataclasses.replace(knob, family=model)
        found.append(knob)
    return found


def _section(field: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """The model of a field that is a section, and whether it may be absent."""
    kind, optional = _without_none(field.annotation)
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not PolicyChoice:
        return kind, optional
    return None, optional


def _field_knob(key: str, field: FieldInfo) -> Knob:
    default = MISSING if field.is_required() else field.get_default(call_default_factory=True)
    knob = _knob(key, field.annotation, default, field.description or "")
    low, high = _limits(field.metadata)
    return dataclasses.replace(knob, low=low, high=high)


def _knob(key: str, annotation: Any, default: Any, description: str = "") -> Knob:
    kind, optional = _without_none(annotation)
    low: float | None = None
    high: float | None = None
    if typing.get_origin(kind) is typing.Annotated:
        kind, *metadata = typing.get_args(kind)
        low, high = _limits(metadata)
    common: dict[str, Any] = {"key": key, "description": description, "optional": optional, "default": default}
    if typing.get_origin(kind) is Literal:
        return Knob(kind="choice", choices=tuple(map(str, typing.get_args(kind))), **common)
    if kind is PolicyChoice or (isinstance(kind, type) and getattr(kind, "_is_protocol", False)):
        return Knob(kind="policy", family=kind, **common)
    return Knob(kind=KINDS.get(kind, "toml"), low=low, high=high, **common)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The type but for None, and whether None was there."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
        return (kinds[0] if len(kinds) == 1 else annotation), len(kinds) < len(typing.get_args(annotation))
    return annotation, False


def _limits(metadata: Sequence[Any]) -> tuple[float | None, float | None]:
    """Least and most, kept as if they belonged to the range; the models refuse the very limit where it does not."""
    found: dict[str, float] = {}
    for entry in metadata:
        for name in ("ge", "gt", "le", "lt"):
            value = getattr(entry, name, None)
            if value is not None:
                found[name] = value
    return found.get("ge", found.get("gt")), found.get("le", found.get("lt"))


def _first_line(kind: type[Any]) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def lookup(tables: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; MISSING where there is none."""
    node: Any = tables
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return MISSING
        node = node[part]
    return node


def put(tables: dict[str, Any], key: str, value: Any) -> None:
    """Set the value at a dotted key."""
    *sections, last = key.split(".")
    for name in sections:
        tables = tables.setdefault(name, {})
    tables[last] = value
