"""A policy object from what a scenario says of it: a registry's name, and the keys of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.section import PolicyChoice

Policy = TypeVar("Policy")


def make_policy(key: str, choice: PolicyChoice, registry: Mapping[str, type[Policy]], given: dict[str, Any]) -> Policy:
    """An object of a registry's class from a scenario's table; raises FleetcastError naming the key that is wrong."""
    if choice.name not in registry:
        raise UnknownNameError(f"{key}.name", choice.name, registry)
    kind = registry[choice.name]
    known = {field.name for field in fields(kind)} - set(given)  # type: ignore[arg-type]
    for name in choice.keys:
        if name not in known:
            raise UnknownNameError(f"{key} '{choice.name}' key", name, known)
    try:
        policy: Policy = TypeAdapter(kind).validate_python({**given, **choice.keys})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise FleetcastError(f"{key} '{choice.name}': has no '{where}'; give it") from None
        if first["type"] == "unexpected_keyword_argument":
            raise FleetcastError(f"{key}.{where}: unknown key; leave it out, or spell it as its policy does") from None
        message = first["msg"].removeprefix("Input should be ")
        raise FleetcastError(f"{key}.{where} = {first['input']!r}: must be {message}") from None
    return policy
