"""The slow reading of a table, value by value, which knows the line of whatever is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from hardware_models.errors import FleetcastError
from workloads.traces.columns import EXPECTED, Kind, Located, TableFormat

MAX_TOKENS = 1_000_000_000


class Row(NamedTuple):
    """A row of text cells and where it stands: `line 3` of a CSV file, `row 3` of a Parquet file."""

    place: str
    cells: Sequence[str]


def scan(where: str, fmt: TableFormat, columns: Sequence[Located], rows: Iterable[Row], width: int) -> dict[str, Any]:
    """Read the rows into one list a field, or raise the error of the first bad row."""
    values: dict[str, list[Any]] = {found.column.field: [] for found in columns}
    answer = next((c for c in columns if c.column.field == "output_tokens"), None)
    for row in rows:
        _check_width(where, row, width)
        dropped = fmt.drops_empty_answers and answer is not None and _is_zero(row.cells[answer.position])
        for found in columns:
            cell = row.cells[found.position].strip()
            if dropped and found.column.kind == "tokens":
                values[found.column.field].append(0.0)
                continue
            try:
                values[found.column.field].append(PARSERS[found.column.kind](cell))
            except (ValueError, OverflowError):
                raise _bad(where, row, found, cell) from None
    return {field: _array(column) for field, column in values.items()}


def _array(column: list[Any]) -> Any:
    return column if column and isinstance(column[0], str) else np.asarray(column)


def _check_width(where: str, row: Row, width: int) -> None:
    if len(row.cells) != width:
        raise FleetcastError(
            f"{where}, {row.place}: has {len(row.cells)} fields where the header has {width}; mend or delete the row"
        )


def _bad(where: str, row: Row, found: Located, cell: str) -> FleetcastError:
    expected = EXPECTED[found.column.kind]
    return FleetcastError(f"{where}, {row.place}: {found.name} is '{cell}'; give {expected}")


def _is_zero(cell: str) -> bool:
    try:
        return _number(cell) == 0.0
    except ValueError:
        return False


def _number(cell: str) -> float:
    if "_" in cell:  # Python reads 1_000, other programs do not
        raise ValueError(cell)
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(cell)
    return value


def _seconds(cell: str) -> float:
    value = _number(cell)
    if value < 0:
        raise ValueError(cell)
    return value


def _tokens(cell: str) -> float:
    value = _number(cell)
    if value != int(value) or not 1 <= value <= MAX_TOKENS:
        raise ValueError(cell)
    return value


def _integer(cell: str) -> int:
    value = _number(cell)
    if value != int(value):
        raise ValueError(cell)
    return int(value)


def _timestamp(cell: str) -> int:
    """Nanoseconds since 1970."""
    import pandas as pd

    if not cell[:4].isdigit() or "-" not in cell:
        raise ValueError(cell)
    stamp = pd.Timestamp(cell)
    return int((stamp if stamp.tzinfo else stamp.tz_localize("UTC")).as_unit("ns").value)


PARSERS: dict[Kind, Any] = {
    "seconds": _seconds,
    "timestamp": _timestamp,
    "tokens": _tokens,
    "integer": _integer,
    "name": str,
}


def lines_of(where: str, reader: Any) -> Iterator[Row]:
    """Rows of a csv.reader with the line on which each starts, blank ones left out; the header must be taken."""
    import csv

    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            raise FleetcastError(f"{where}, line {start}: is not CSV ({err}); mend or delete the line") from None
        if any(cell.strip() for cell in cells):
            yield Row(f"line {start}", cells)
