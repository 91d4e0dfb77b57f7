"""What a stranger's scenario may name: entries of the catalogs, and the app's own files by bare name; no path."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from app.web.store import BARE_NAME, Store
from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError
from sim.scenario import Scenario
from sim.scenario_file import AnyScenario, parse_any, parse_scenario, read_toml
from workloads.models import catalog as models
from workloads.traces.catalog import catalog_names

DEPTH = 8  # of tables and lists in a scenario
TRACE_SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")
FILES = {  # key -> the store's folder and the endings of files that it may name
    ("model", "config"): ("uploads", (".json",)),
    ("cluster", "node"): ("hardware", (".toml",)),
    ("workload", "trace"): ("uploads", TRACE_SUFFIXES),
}


def safe_scenario(tables: dict[str, Any], origin: str, store: Store) -> Scenario:
    """Validate a stranger's tables of serving as the command line does; raises FleetcastError, also for a path."""
    return parse_scenario(safe_tables(tables, origin, store), origin, store.root / "nowhere")


def safe_any(tables: dict[str, Any], origin: str, store: Store) -> AnyScenario:
    """The same of whatever kind of scenario."""
    return parse_any(safe_tables(tables, origin, store), origin, store.root / "nowhere")


def safe_tables(tables: dict[str, Any], origin: str, store: Store) -> dict[str, Any]:
    """A stranger's tables, or some of them, with the app's own files by their places; raises FleetcastError for any
    other path.
    """
    check_depth(tables, origin)
    resolved = copy.deepcopy(tables)
    for (section, key), (folder, suffixes) in FILES.items():
        table = resolved.get(section)
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = _resolved(f"{origin}: {section}.{key}", table[key], store, folder, suffixes)
    _refuse_paths(resolved, origin)
    return resolved


def check_depth(value: Any, origin: str, depth: int = 0) -> None:
    """Raises FleetcastError for tables that no scenario has, which would only exhaust the reader."""
    if depth > DEPTH:
        raise FleetcastError(f"{origin}: its tables lie more than {DEPTH} deep in each other; no scenario needs that")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            check_depth(item, origin, depth + 1)


def bare_tables(scenario: AnyScenario, store: Store) -> dict[str, Any]:
    """A scenario's tables with the app's own files by their bare names, absent values left out."""
    tables = scenario.model_dump(exclude_none=True)
    for (section, key), (folder, _) in FILES.items():
        value = tables.get(section, {}).get(key)
        if isinstance(value, str) and Path(value).parent == _folder(store, folder).resolve():
            tables[section][key] = Path(value).name
    return tables


def _folder(store: Store, name: str) -> Path:
    return store.hardware if name == "hardware" else store.uploads


def _resolved(where: str, value: str, store: Store, folder: str, suffixes: tuple[str, ...]) -> str:
    """A catalog name as it is, the absolute path of a file of the store by its bare name; no other is handed on, as
    the simulator would look for a file of that name where the app was started.
    """
    if known := _catalogued(where, value):
        return known
    if value.endswith(suffixes) and BARE_NAME.fullmatch(value):
        path = store.file(_folder(store, folder), value, suffixes, where)
        if folder == "hardware":
            check_parts(path, store.hardware.resolve())
        return str(path)
    if "/" in value or "\\" in value or value.startswith((".", "~")) or value.endswith(suffixes):
        raise FleetcastError(
            f"{where} = '{value[:60]}': the app reads no files but its own; give a catalog name, or a file of"
            f" {folder} by its bare name"
        )
    raise UnknownNameError(where, value[:60], [*_names(where), *store.files(_folder(store, folder), suffixes)])


def _catalogued(where: str, value: str) -> str | None:
    """A name of the key's catalog; models go by other names too."""
    if where.endswith("model.config"):
        return models.known_name(value)
    return value if value in _names(where) else None


def _names(where: str) -> list[str]:
    """The key's catalog."""
    if where.endswith("model.config"):
        return models.names()
    return catalog.names("node") if where.endswith("cluster.node") else catalog_names()


def check_parts(path: Path, folder: Path, depth: int = 0) -> None:
    """Raises FleetcastError where a hardware file, or one that it names, names a file outside the folder."""
    if depth > DEPTH:
        raise FleetcastError(f"{path.name}: names files that name each other in a circle")
    for key, value in read_toml(path).items():
        if isinstance(value, str) and value.endswith(".toml"):
            part = path.parent / value
            if part.is_symlink() or not part.resolve().is_relative_to(folder):
                raise FleetcastError(f"{path.name}: {key} = '{value[:60]}': lies outside the app's hardware folder")
            if part.is_file():
                check_parts(part, folder, depth + 1)


def _refuse_paths(tables: dict[str, Any], origin: str, prefix: str = "") -> None:
    """No other value may look like a path, whatever key a later section gives it."""
    for key, value in tables.items():
        where = f"{prefix}{key}"
        if isinstance(value, dict):
            _refuse_paths(value, origin, f"{where}.")
        elif isinstance(value, list):
            _refuse_paths({str(number): item for number, item in enumerate(value)}, origin, f"{where}.")
        elif not isinstance(value, str) or where == "name" or tuple(where.split(".")) in FILES:
            continue
        elif "/" in value or value.endswith(".toml"):
            raise FleetcastError(f"{origin}: {where} = '{value[:60]}': the app takes names, not paths")
