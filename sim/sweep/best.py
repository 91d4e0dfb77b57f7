"""The best setting of a sweep as a scenario file that `fleetcast run` takes."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from sim.scenario_file import PATH_KEYS, AnyScenario, scenario_toml, table_of
from sim.sweep.analysis import analyse
from sim.sweep.folder import BEST
from sim.sweep.parts import write_text
from sim.sweep.points import Points
from sim.sweep.tables import scenario_tables


def write_best(points: Points, rows: pd.DataFrame, folder: Path) -> None:
    """Write best.toml, with the first seed; nothing where no setting keeps the limits."""
    best = analyse(points.sweep, rows).best
    if best is not None:
        point = points.points[int(best["first"])]
        tables = scenario_tables(points.sweep, points.settings[point.setting], point.seed)
        best_scenario = points.sweep.model.model_validate(tables)
        write_text(scenario_toml(_beside(best_scenario, folder.resolve())), folder / BEST)


def _beside(scenario: AnyScenario, folder: Path) -> AnyScenario:
    """The same scenario, its absolute paths seen from a folder."""
    tables = scenario.model_dump()
    for section, key in PATH_KEYS:
        table = table_of(tables, section)
        value = table.get(key)
        if isinstance(value, str) and Path(value).is_absolute():
            path = os.path.relpath(value, folder)
            table[key] = path if "/" in path else f"./{path}"
    return type(scenario).model_validate(tables)
