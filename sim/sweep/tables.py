"""A setting of a sweep as a scenario's tables, and what it means that validation refuses them."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from hardware_models.errors import FleetcastError
from sim.scenario_errors import sentence
from sim.sweep.definition import Sweep, put


def scenario_tables(sweep: Sweep, setting: tuple[Any, ...], seed: int) -> dict[str, Any]:
    """The scenario of a point; keys of a table apply after the table."""
    tables = copy.deepcopy(sweep.base)
    for key, value in sorted(zip(sweep.keys, setting, strict=True), key=lambda pair: pair[0].count(".")):
        put(tables, key, copy.deepcopy(value) if isinstance(value, dict | list) else value)
    tables["seed"] = seed
    return tables


def is_combination(error: ValidationError) -> bool:
    """Are the keys right one by one, and only refused together?"""
    return all(one["type"] == "value_error" and len(one["loc"]) <= 1 for one in error.errors()) and not any(
        one["loc"] == ("name",) for one in error.errors()
    )


def mistake(sweep: Sweep, error: ValidationError) -> FleetcastError:
    """What to raise for a key or a value that no scenario accepts, by where it was given."""
    text = sentence(error, sweep.model)
    axis = next((axis for axis in sweep.axes if axis.key in text), None)
    if axis is None:
        return FleetcastError(f"{sweep.scenario_origin}: {text}")
    hint = " (a range has whole numbers with integer = true)" if text.endswith("give a whole number") else ""
    return FleetcastError(f"{sweep.origin}: axes: {text}{hint}")
