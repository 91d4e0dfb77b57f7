"""The scenarios that ship with Fleetcast, which the pages start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.web.families import FAMILIES, SERVING, Family, family_of
from hardware_models.errors import UnknownNameError
from sim.scenario_file import read_toml

FOLDER = Path(__file__).parent.parent.parent / "scenarios"
DEFAULT = SERVING.default


def example_names(family: Family = SERVING) -> list[str]:
    """Names of the shipped scenarios of a kind, the default one first."""
    shipped = {path.stem: read_toml(path) for path in sorted(FOLDER.glob("*.toml"))}
    names = [name for name, tables in shipped.items() if family_of(tables) is family]
    return sorted(names, key=lambda name: name != family.default)


def all_example_names() -> list[str]:
    """Of every kind, one kind after another."""
    return [name for family in FAMILIES for name in example_names(family)]


def example_tables(name: str) -> dict[str, Any]:
    """The tables of a shipped scenario; raises UnknownNameError."""
    names = all_example_names()
    if name not in names:
        raise UnknownNameError("base", name, names)
    return read_toml(FOLDER / f"{name}.toml")
