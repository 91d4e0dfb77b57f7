"""Which settings of a sweep keep its constraints."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from hardware_models.errors import FleetcastError
from sim.sweep.axes import Choices
from sim.sweep.definition import Sweep
from sim.sweep.expressions import check_keys
from sim.sweep.tables import is_combination, mistake, scenario_tables


class Constrained:
    """The constraints of a sweep, asked setting by setting.

    A constraint sees the scenario of a setting with every default. A key that only other settings have, as a policy's
    own keys are where policies are compared, is None: equal to nothing, and a mistake in arithmetic.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._known: dict[str, dict[str, Any]] = {}  # values of axes that are tables -> values of all keys
        levels = [(axis.key, value) for axis in sweep.axes if isinstance(axis, Choices) for value in axis.values]
        self._somewhere = dict.fromkeys(key for axis, value in levels for key in flat({axis: value}))

    def keeps(self, setting: tuple[Any, ...]) -> bool:
        """Does a setting keep them all? Raises FleetcastError for a constraint that makes no sense."""
        if not self._sweep.constraints:
            return True
        tables = repr([value for value in setting if isinstance(value, dict)])
        if tables not in self._known:
            self._known[tables] = self._values(setting)
        scalars = {
            key: value for key, value in zip(self._sweep.keys, setting, strict=True) if not isinstance(value, dict)
        }
        known = self._known[tables] | scalars
        try:
            return all(constraint.holds(known) for constraint in self._sweep.constraints)
        except FleetcastError as error:
            raise FleetcastError(f"{self._sweep.origin}: {error}") from None

    def _values(self, setting: tuple[Any, ...]) -> dict[str, Any]:
        """Every key of the scenario that a constraint may name; raises FleetcastError for one that it may not."""
        tables = scenario_tables(self._sweep, setting, self._sweep.seeds[0])
        try:
            values = flat(self._sweep.model.model_validate(tables).model_dump())
        except ValidationError as error:
            if not is_combination(error):
                raise mistake(self._sweep, error) from None
            values = _defaults(self._sweep.model)  # a scenario that cannot be has them all the same
        values = self._somewhere | values | flat(tables)
        try:
            for constraint in self._sweep.constraints:
                check_keys(constraint, values)
        except FleetcastError as error:
            raise FleetcastError(f"{self._sweep.origin}: {error}") from None
        return values


def flat(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of nested tables, the tables themselves left out."""
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _defaults(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Of every key that has one, sections of the model included."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _defaults(kind, f"{prefix}{name}.")
        if isinstance(default := field.get_default(call_default_factory=True), BaseModel):
            found |= flat(default.model_dump(), f"{prefix}{name}.")
        elif not field.is_required():
            found[f"{prefix}{name}"] = default
    return found
