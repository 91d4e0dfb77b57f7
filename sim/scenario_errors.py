"""One sentence from pydantic's complaints about a scenario: the key, its value, and what would be accepted."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sim.scenario import Scenario

ACCEPTED = {
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "int_parsing_size": "give a smaller whole number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "string_type": "give text in quotes",
    "string_too_short": "give at least {min_length} character",
    "string_too_long": "give at most {max_length} characters",
    "greater_than": "give a number above {gt}",
    "greater_than_equal": "give at least {ge}",
    "less_than_equal": "give at most {le}",
    "dict_type": 'give a table, {{ name = "..." }}',
}
CHOICES = (
    "serving.scheduler", "serving.router", "training.schedule", "training.sharding", "training.recompute",
    "training.activation_offload", "training.context_parallel", "training.gradient_reduce",
    "offload.policy",
)  # fmt: skip
FIRST = ("extra_forbidden", "missing")  # a misspelt key explains the missing one and more


def sentence(error: ValidationError, root: type[BaseModel] = Scenario) -> str:
    """The complaint that explains most; `root` is the model that was to be validated."""
    rank = {kind: number for number, kind in enumerate(FIRST)}
    return _sentence(min(error.errors(), key=lambda one: rank.get(one["type"], len(rank))), root)


def _sentence(error: ErrorDetails, root: type[BaseModel]) -> str:
    location = [str(part) for part in error["loc"]]
    key, kind = ".".join(location), error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(location, root)
    if kind == "missing":
        return _missing_key(location, error["input"], root)
    if kind == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    if kind == "model_type":
        choice = key in CHOICES
        accepted = 'give a table, { name = "..." }' if choice else f"give a section, [{key}]"
    else:
        limits = {
            name: f"{limit:,.12g}" for name, limit in error.get("ctx", {}).items() if isinstance(limit, int | float)
        }
        accepted = ACCEPTED[kind].format(**limits) if kind in ACCEPTED else error["msg"].lower()
    return f"{key} = {_shown(error['input'])}: {accepted}"


def _unknown_key(location: list[str], root: type[BaseModel]) -> str:
    *section, name = location
    prefix = "".join(f"{part}." for part in section)
    known = _keys_of(section, root)
    close = difflib.get_close_matches(name, known, n=1)
    elsewhere = [key for key in _all_keys(root) if key.rpartition(".")[2] == name]
    if close:
        hint = f"did you mean '{prefix}{close[0]}'?"
    elif elsewhere:
        hint = f"did you mean '{elsewhere[0]}'?"
    else:
        hint = f"known keys: {', '.join(known)}"
    return f"unknown key '{prefix}{name}'; {hint}"


def _missing_key(location: list[str], given: object, root: type[BaseModel]) -> str:
    *section, name = location
    close = difflib.get_close_matches(name, [str(key) for key in given], n=1) if isinstance(given, dict) else []
    if close:
        return f"unknown key '{'.'.join((*section, close[0]))}'; did you mean '{'.'.join(location)}'?"
    if not section:
        required = [key for key, field in _model([name], root).model_fields.items() if field.is_required()]
        return f"section [{name}] is missing; add it" + (f" with its key '{required[0]}'" if required else "")
    return f"'{'.'.join(location)}' is missing; add it"


def _keys_of(section: list[str], root: type[BaseModel]) -> list[str]:
    return sorted(_model(section, root).model_fields)


def _model(section: list[str], root: type[BaseModel]) -> type[BaseModel]:
    model = root
    for part in section:
        if not part.isdigit():  # an entry of a list
            model = next(_models_in(model.model_fields[part].annotation))
    return model


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Those of a union or of a list's entries too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for option in typing.get_args(annotation):
        yield from _models_in(option)


def _all_keys(root: type[BaseModel]) -> Iterator[str]:
    for name, field in root.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name}.{key}" for key in _keys_of([name], root))


def _shown(value: object) -> str:
    """As a scenario file would have it, shortened; `--set key=` gives nothing."""
    if value is None:
        return "''"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
