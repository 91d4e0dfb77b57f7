"""Reads scenario files: TOML in, a validated Scenario out, or one sentence that says what is wrong and what would do."""

from __future__ import annotations

import difflib
import json
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hardware_models.errors import FleetcastError
from sim.scenario import Scenario


def load_scenario(path: str | Path, overrides: tuple[str, ...] = ()) -> Scenario:
    """Read a scenario file and apply `key=value` overrides; raises FleetcastError.

    Paths inside the file are resolved from its own folder.
    """
    path = Path(path)
    return parse_scenario(read_toml(path), str(path), path.parent, overrides)


def parse_scenario(data: dict[str, Any], origin: str, folder: Path, overrides: tuple[str, ...] = ()) -> Scenario:
    """Validate scenario tables; `origin` names them in messages."""
    for override in overrides:
        _set(data, override)
    _resolve(data, "model", "config", folder)
    _resolve(data, "cluster", "node", folder)
    _resolve(data, "workload", "trace", folder)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise FleetcastError(f"{origin}: {_sentence(error.errors()[0])}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tables; raises FleetcastError for anything that is not one."""
    if path.is_dir():
        raise FleetcastError(f"{path}: is a folder; give a scenario file (TOML)")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FleetcastError(f"{path}: no such file") from None
    except OSError as error:
        raise FleetcastError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FleetcastError(f"{path}: is not text; give a scenario file (TOML)") from None
    except tomllib.TOMLDecodeError as error:
        raise FleetcastError(f"{path}: is not valid TOML: {error}") from None


def _set(data: dict[str, Any], override: str) -> None:
    key, found, text = override.partition("=")
    if not found or not key.strip():
        raise FleetcastError(f"--set {override}: write it as key=value, for example serving.max_num_seqs=64")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string
    *tables, last = key.strip().split(".")
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise FleetcastError(f"--set {override}: '{table}' is a value, not a table")
    data[last] = value


def _resolve(data: dict[str, Any], section: str, key: str, folder: Path) -> None:
    """Turn a value that is a path (it has a slash or a suffix of a file) into one from the working folder."""
    table = data.get(section)
    value = table.get(key) if isinstance(table, dict) else None
    if not isinstance(value, str) or not table:
        return
    candidate = folder / value
    if not Path(value).is_absolute() and ("/" in value or candidate.is_file()):
        table[key] = str(candidate)


def _sentence(error: ErrorDetails) -> str:
    """One sentence from pydantic's first complaint: key, value, and what would be accepted."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location) or "scenario"
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key '{key}'; {hint}"
    if error["type"] == "missing":
        return f"'{key}' is missing; it is required"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message if key == "scenario" else f"{key}: {message}"
    return f"{key} = {error['input']!r}: {message[0].lower()}{message[1:]}"


def _known_keys(location: list[str]) -> list[str]:
    model: type[BaseModel] = Scenario
    for part in location:
        annotation = model.model_fields[part].annotation
        options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        model = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return sorted(model.model_fields)


def scenario_toml(scenario: Scenario) -> str:
    """A scenario as a TOML document that loads back to an equal one."""
    lines: list[str] = []
    tables: dict[str, dict[str, Any]] = {}
    for key, value in scenario.model_dump(exclude_none=True).items():
        if isinstance(value, dict):
            tables[key] = value
        else:
            lines.append(f"{key} = {_toml_value(value)}")
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # a JSON string is a TOML basic string
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)
