"""A TOML file becomes a spec, or one sentence on the first mistake in it."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hardware_models.errors import FleetcastError
from hardware_models.provenance import Source
from hardware_models.specs import PcieSwitch, Spec

SCHEMA = 1
NESTED: dict[str, type[BaseModel]] = {"pcie_switches": PcieSwitch}  # keys that hold tables; all others hold Sources

S = TypeVar("S", bound=Spec)


def parse_spec(model: type[S], path: Path, shown: str) -> S:
    """The spec in a file; raises FleetcastError. `shown`: what messages call the file."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetcastError(f"{shown}: cannot be read ({error.strerror}); give the path of a file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FleetcastError(f"{shown}: not valid TOML: {error}") from error
    schema = data.pop("schema", SCHEMA)
    if schema != SCHEMA:
        raise FleetcastError(f"{shown}: schema = {schema!r} is not known; this version reads schema = {SCHEMA}")
    return validated(model, data, shown)


def validated(model: type[S], data: dict[str, Any], shown: str) -> S:
    """The spec of a table of figures; raises FleetcastError with the first mistake. `shown`: whose figures."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise FleetcastError(f"{shown}: {_first_mistake(error, model)}") from error


def _first_mistake(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence on the first thing wrong; an unknown key comes before the missing key it may stand for."""
    mistakes = error.errors(include_url=False, include_context=False)
    mistakes.sort(key=lambda mistake: mistake["type"] != "extra_forbidden")
    return _sentence(mistakes[0]["type"], mistakes[0]["loc"], mistakes[0]["input"], mistakes[0]["msg"], model)


def _sentence(kind: str, location: tuple[int | str, ...], value: Any, message: str, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        known = sorted(model.model_fields if len(location) == 1 else NESTED.get(str(location[0]), Source).model_fields)
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        return f"unknown key '{key}' = {value!r}; {hint}"
    if kind == "missing":
        return f"missing key '{key}'; see the files of the catalog for an example"
    reason = message.removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if not location:
        return reason
    if isinstance(value, dict):
        return f"{key}: {reason}"
    hint = " (units are SI, as the key ends)" if isinstance(value, int | float) else ""
    return f"{key} = {value!r}: {reason}{hint}"
