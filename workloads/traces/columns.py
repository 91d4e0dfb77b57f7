"""A trace format that is a table: which column is which, under all the names it goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hardware_models.errors import FleetcastError

Kind = Literal["seconds", "timestamp", "tokens", "integer", "name"]
Field = Literal["arrival_s", "prompt_tokens", "output_tokens", "request_id", "priority", "tenant", "session"]

EXPECTED: dict[Kind, str] = {
    "seconds": "a time in seconds, at least 0",
    "timestamp": "a time such as 2023-11-16 18:15:46.6805900, or request_rate to replace all arrivals",
    "tokens": "a whole number of tokens, at least 1",
    "integer": "a whole number",
    "name": "a name",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a format: the field it fills, the spellings of its header and how its values read."""

    field: Field
    names: tuple[str, ...]
    kind: Kind
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A column found in a header: its position and the spelling used there."""

    column: Column
    position: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormat:
    """A tabular trace format; `drops_empty_answers` leaves out rows with no output, as logs of failures have."""

    name: str
    columns: tuple[Column, ...]
    drops_empty_answers: bool = False

    def locate(self, header: Sequence[str]) -> list[Located]:
        """Find this format's columns in a header."""
        titles = [title.strip() for title in header]
        found = []
        for column in self.columns:
            name = next((n for n in column.names if n in titles), None)
            if name is not None:
                found.append(Located(column=column, position=titles.index(name), name=name))
        return found

    def reads(self, header: Sequence[str]) -> bool:
        """Whether the header has all this format needs, its arrivals aside."""
        fields = {found.column.field for found in self.locate(header)}
        return all(c.field in fields for c in self.columns if c.required and c.field != "arrival_s")

    def describe(self) -> str:
        """Name the format and its required columns."""
        needed = ", ".join(column.names[0] for column in self.columns if column.required)
        return f"{self.name} ({needed})"


def choose(where: str, header: Sequence[str], formats: Sequence[TableFormat]) -> TableFormat:
    """Pick the format whose columns the header has; the file's name plays no part."""
    fitting = [fmt for fmt in formats if fmt.reads(header)]
    if fitting:
        return max(fitting, key=lambda fmt: len(fmt.locate(header)))
    nearest = max(formats, key=lambda fmt: len(fmt.locate(header)))
    found = nearest.locate(header)
    if found:
        fields = {one.column.field for one in found}
        missing = [" or ".join(c.names) for c in nearest.columns if c.required and c.field not in fields]
        lacking = ", ".join(missing)
        raise FleetcastError(
            f"{where}: lacks the column {lacking}, which the format {nearest.name} needs; add it to the header"
        )
    titles = ", ".join(title.strip()[:40] for title in header[:8])
    known = "; ".join(fmt.describe() for fmt in formats)
    raise FleetcastError(f"{where}: the columns '{titles}' are of no known trace format; known are {known}")
