"""The scenarios that ship with Fleetcast, which the pages start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardware_models.errors import UnknownNameError
from sim.scenario_file import read_toml

FOLDER = Path(__file__).parent.parent.parent / "scenarios"
DEFAULT = "chat-70b-chunked"


def example_names() -> list[str]:
    """Names of the shipped scenarios, the default one first."""
    names = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return sorted(names, key=lambda name: name != DEFAULT)


def example_tables(name: str) -> dict[str, Any]:
    """The tables of a shipped scenario; raises UnknownNameError."""
    names = example_names()
    if name not in names:
        raise UnknownNameError("base", name, names)
    return read_toml(FOLDER / f"{name}.toml")
