"""A scenario in a URL: the example it starts from and every key that differs, as `--set` would have it.

`?base=chat-70b-chunked&serving.max_num_seqs=64`; a key with nothing behind its `=` is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from app.web.examples import example_tables
from app.web.families import SERVING, Family, check_family
from app.web.guard import bare_tables, safe_any
from app.web.store import Store
from hardware_models.errors import FleetcastError
from sim.scenario_file import apply_override, override_value, toml_value

BASE = "base"
PARAMETERS = 200  # more than any scenario has keys


def flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value; an empty table is a value."""
    cells: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping) and value:
            cells |= flat(value, f"{prefix}{key}.")
        else:
            cells[f"{prefix}{key}"] = value
    return cells


def differences(base: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key to the text that `--set` takes, for every key that differs; empty text: absent in `tables`."""
    before, after = flat(base), flat(tables)
    keys = [*after, *(key for key in before if key not in after)]
    return {
        key: _text(after[key]) if key in after else ""
        for key in keys
        if key not in after or key not in before or before[key] != after[key]
    }


def query(base: str, tables: Mapping[str, Any], store: Store) -> dict[str, str]:
    """The parameters of the URL that opens these tables."""
    return {BASE: base, **differences(full_example(base, store), tables)}


def full_example(name: str, store: Store) -> dict[str, Any]:
    """A shipped scenario with every default filled in."""
    return bare_tables(safe_any(example_tables(name), f"{name}.toml", store), store)


def opened(parameters: Mapping[str, str], store: Store, family: Family = SERVING) -> tuple[str, dict[str, Any]]:
    """The example and the full tables that a URL means on a family's page; raises FleetcastError for a bad one."""
    if len(parameters) > PARAMETERS:
        raise FleetcastError(f"URL: has {len(parameters)} parameters; a scenario has fewer keys than {PARAMETERS}")
    base = parameters.get(BASE, family.default)
    tables = full_example(base, store)
    for key, text in parameters.items():
        if key == BASE:
            continue
        if text == "":
            _drop(tables, key)
        else:
            _replace(tables, key, text)
    scenario = safe_any(tables, "URL", store)
    check_family(scenario, family, "URL")
    return base, bare_tables(scenario, store)


def _replace(tables: dict[str, Any], key: str, text: str) -> None:
    try:
        apply_override(tables, f"{key}={text}")
    except FleetcastError as error:
        raise FleetcastError(str(error).replace("--set ", "URL: ", 1)) from None


def _drop(tables: dict[str, Any], key: str) -> None:
    """Take a key away, and the tables that this leaves empty."""
    *sections, last = key.split(".")
    path: list[dict[str, Any]] = [tables]
    for name in sections:
        inner = path[-1].get(name)
        if not isinstance(inner, dict):
            raise FleetcastError(f"URL: '{key}' is given without a value; write key=value, or leave it out")
        path.append(inner)
    if path[-1].pop(last, None) is None:
        raise FleetcastError(f"URL: '{key}' is given without a value; write key=value, or leave it out")
    for name, (outer, inner) in reversed(list(zip(sections, pairwise(path), strict=True))):
        if not inner:
            del outer[name]


def _text(value: Any) -> str:
    """As short as `--set` understands it."""
    if isinstance(value, str) and value and value == value.strip() and override_value(value) == value:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return toml_value(value)
