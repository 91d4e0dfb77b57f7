"""Makes a generator of a scenario's table: `name` picks the class, the other keys are its fields."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from hardware_models.errors import FleetcastError, UnknownNameError
from workloads.generators.clients import Client
from workloads.generators.lengths import Fixed

Registry = Mapping[str, type[Any]]


def build(spec: Any, key: str, families: Mapping[str, Registry]) -> Any:
    """Build the object that the table `spec`, found at `key`, describes; `families` maps a field's type to its names.

    A bare whole number is a fixed length.
    """
    return _one(spec, key, families["Generator"], families)


def _one(spec: Any, key: str, registry: Registry, families: Mapping[str, Registry]) -> Any:
    if registry is families["Lengths"] and isinstance(spec, int):
        return _made(Fixed, {"tokens": spec}, key, families)
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        names = ", ".join(sorted(registry))
        raise FleetcastError(f"{key} = {spec!r}: give a table with a name ({names}) and its keys")
    name = spec["name"]
    if name not in registry:
        raise UnknownNameError(f"{key}.name", name, registry)
    return _made(registry[name], {k: v for k, v in spec.items() if k != "name"}, key, families)


def _made(cls: type[Any], keys: Mapping[str, Any], key: str, families: Mapping[str, Registry]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for name, value in keys.items():
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(fields)}"
            raise FleetcastError(f"{key}: unknown key '{name}'; {hint}")
        values[name] = _value(str(fields[name].type), value, f"{key}.{name}", families)
    required = [f.name for f in fields.values() if f.default is dataclasses.MISSING and f.name not in values]
    if required:
        raise FleetcastError(f"{key}: lacks the key '{required[0]}'; give {', '.join(required)}")
    try:
        return cls(**values)
    except FleetcastError as err:
        raise FleetcastError(f"{key}.{err}") from None


def _value(kind: str, value: Any, key: str, families: Mapping[str, Registry]) -> Any:
    for family, registry in families.items():
        if kind.startswith(family):
            return _one(value, key, registry, families)
    if kind == "Sequence[Client]":
        if not isinstance(value, (list, tuple)):
            raise FleetcastError(f"{key} = {value!r}: give a list of clients")
        return tuple(_client(one, f"{key}[{i}]", families) for i, one in enumerate(value))
    return tuple(value) if isinstance(value, list) else value


def _client(spec: Any, key: str, families: Mapping[str, Registry]) -> Client:
    if not isinstance(spec, Mapping):
        raise FleetcastError(f"{key} = {spec!r}: give a table with name, arrivals, prompt_tokens and output_tokens")
    client: Client = _made(Client, spec, key, families)
    return client
