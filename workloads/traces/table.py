"""Reads a tabular trace: fast by pandas' C parser, and by the slow scan where that one stumbles."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.errors import FleetcastError
from workloads.randomness import stream
from workloads.request import RequestTable
from workloads.traces.columns import Located, TableFormat, choose
from workloads.traces.scan import MAX_TOKENS, Row, lines_of, scan
from workloads.traces.source import TraceFile

EPOCH_S = 1e8  # arrivals beyond are wall-clock times and are taken relative to the first


def read_csv(file: TraceFile, formats: Sequence[TableFormat], request_rate: float | None, seed: int) -> RequestTable:
    """Read a CSV trace in whichever of the formats its header shows."""
    where = str(file.path)
    header, header_lines, rows = _opened(where, file)
    fmt = choose(where, header, formats)
    columns = _wanted(where, fmt, header, request_rate)
    values = _fast(file.content, header_lines, len(header), columns)
    if values is None or not _plausible(values, fmt):
        values = scan(where, fmt, columns, rows, len(header))
    return assemble(where, fmt, values, request_rate, seed)


def read_parquet(file: TraceFile, formats: Sequence[TableFormat], rate: float | None, seed: int) -> RequestTable:
    """Read a Parquet trace in whichever of the formats its columns show; rows count from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = str(file.path)
    try:
        table = pq.read_table(io.BytesIO(file.content))
    except (pa.ArrowException, OSError) as err:
        raise FleetcastError(f"{where}: is a damaged Parquet file ({err}); write it again") from err
    header = list(table.column_names)
    fmt = choose(where, header, formats)
    columns = _wanted(where, fmt, header, rate)
    values = _fast_columns({found: table.column(found.position) for found in columns})
    if values is not None and _plausible(values, fmt):
        return assemble(where, fmt, values, rate, seed)
    kept = [table.column(found.position).to_pylist() for found in columns]
    cells = [[_cell(value) for value in column] for column in kept]
    placed = [Located(column=c.column, position=i, name=c.name) for i, c in enumerate(columns)]
    rows = (Row(f"row {i}", row) for i, row in enumerate(zip(*cells, strict=True), start=1))
    return assemble(where, fmt, scan(where, fmt, placed, rows, len(placed)), rate, seed)


def _fast_columns(columns: dict[Located, Any]) -> dict[str, Any] | None:
    """Arrow columns as arrays, or None where one is not of the type its format has."""
    values: dict[str, Any] = {}
    for found, column in columns.items():
        if found.column.kind == "name":
            values[found.column.field] = [_cell(value).strip() for value in column.to_pylist()]
            continue
        array = column.to_numpy()
        if array.dtype.kind not in "iuf":
            return None
        values[found.column.field] = array.astype(np.float64)
    return values


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _opened(where: str, file: TraceFile) -> tuple[list[str], int, Iterator[Row]]:
    reader = csv.reader(io.StringIO(file.text(), newline=""))
    try:
        header = next(cells for cells in reader if any(cell.strip() for cell in cells))
    except csv.Error as err:
        raise FleetcastError(f"{where}, line {reader.line_num}: is not CSV ({err}); mend the header") from None
    return header, reader.line_num, lines_of(where, reader)


def _wanted(where: str, fmt: TableFormat, header: Sequence[str], request_rate: float | None) -> list[Located]:
    columns = fmt.locate(header)
    if request_rate is not None:
        return [found for found in columns if found.column.field != "arrival_s"]
    if not any(found.column.field == "arrival_s" for found in columns):
        names = next(column.names for column in fmt.columns if column.field == "arrival_s")
        raise FleetcastError(
            f"{where}: holds lengths but no arrivals (no column {' or '.join(names)}); "
            "give request_rate, in requests per second, to draw Poisson arrivals"
        )
    return columns


def _fast(content: bytes, header_lines: int, width: int, columns: Sequence[Located]) -> dict[str, Any] | None:
    """Columns by pandas' C parser, or None where anything is odd: a bad value, a short or a long row."""
    import pandas as pd

    ordered = sorted(columns, key=lambda found: found.position)
    text = {"name", "timestamp"}
    try:
        frame = pd.read_csv(
            io.BytesIO(content),
            header=None,
            skiprows=header_lines,
            names=[found.column.field for found in ordered],
            usecols=[found.position for found in ordered],
            dtype={f.column.field: object if f.column.kind in text else np.float64 for f in ordered},
            na_filter=False,
            index_col=False,
        )
        if b'"' not in content and content.count(b",") != (len(frame) + 1) * (width - 1):
            return None  # the parser drops surplus fields in silence
        values: dict[str, Any] = {}
        for found in ordered:
            series = frame[found.column.field]
            if found.column.kind == "timestamp":
                stamps = pd.to_datetime(series, format="ISO8601", utc=True)
                values[found.column.field] = stamps.to_numpy(dtype="datetime64[ns]").astype(np.int64)
            elif found.column.kind == "name":
                values[found.column.field] = [str(value).strip() for value in series]
            else:
                values[found.column.field] = series.to_numpy()
    except (ValueError, OverflowError):  # the parser's own errors are ValueErrors
        return None
    return values


def _plausible(values: dict[str, Any], fmt: TableFormat) -> bool:
    """Whether no value needs the slow scan; NaN fails every comparison."""
    answered = values["output_tokens"] != 0 if fmt.drops_empty_answers else np.True_
    for field, column in values.items():
        if field in ("prompt_tokens", "output_tokens"):
            whole = (column >= 1) & (column <= MAX_TOKENS) & (column == np.floor(column))
            if not np.all(whole | ~answered):
                return False
        elif field == "arrival_s":
            if not np.all((column >= 0) & (column < np.inf)):
                return False
        elif isinstance(column, np.ndarray) and not np.all(column == np.floor(column)):
            return False
    return True


def assemble(
    where: str, fmt: TableFormat, values: dict[str, Any], request_rate: float | None, seed: int
) -> RequestTable:
    """Turn checked columns into a table: drop unanswered requests, set the clock, number the names."""
    count = len(values["output_tokens"])
    notes: tuple[str, ...] = ()
    if count and fmt.drops_empty_answers:
        keep = np.asarray(values["output_tokens"]) > 0
        lost = int(count - np.count_nonzero(keep))
        if lost:
            values = {field: _kept(column, keep) for field, column in values.items()}
            notes = (f"dropped {lost} of {count} requests, which have 0 output tokens",)
            count -= lost
    if not count:
        raise FleetcastError(f"trace {where} holds no requests{'; ' + notes[0] if notes else ''}; give at least one")
    ids, labels = _numbered(values.get("request_id"))
    return RequestTable.build(
        source=where,
        arrival_s=_clock(values, count, request_rate, seed),
        prompt_tokens=values["prompt_tokens"],
        output_tokens=values["output_tokens"],
        request_id=ids,
        labels=labels,
        priority=values.get("priority"),
        tenant=values.get("tenant"),
        session=_sessions(values.get("session")),
        notes=notes,
    )


def _kept(column: Any, keep: NDArray[np.bool_]) -> Any:
    return column[keep] if isinstance(column, np.ndarray) else [v for v, k in zip(column, keep, strict=True) if k]


def poisson_arrivals(count: int, request_rate: float, seed: int) -> NDArray[np.float64]:
    """Poisson arrivals for a trace without its own, in seconds, by the stream "arrivals"."""
    if not (request_rate > 0 and np.isfinite(request_rate)):
        raise FleetcastError(f"request_rate = {request_rate}: give a finite rate above 0 requests per second")
    return np.cumsum(stream(seed, "arrivals").exponential(1.0 / request_rate, count))


def _clock(values: dict[str, Any], count: int, request_rate: float | None, seed: int) -> NDArray[np.float64]:
    if request_rate is not None:
        return poisson_arrivals(count, request_rate, seed)
    given = np.asarray(values["arrival_s"])
    if given.dtype == np.int64:  # time stamps in ns
        return np.asarray((given - given.min()) / 1e9, dtype=np.float64)
    arrival = np.asarray(given, dtype=np.float64)
    return arrival - arrival.min() if float(arrival.min()) > EPOCH_S else arrival


def _numbered(names: Iterable[str] | None) -> tuple[NDArray[np.int64] | None, list[str] | None]:
    """Ids as integers where all are, else their order and the names as labels."""
    if names is None:
        return None, None
    texts = list(names)
    try:
        return np.asarray([int(text) for text in texts], dtype=np.int64), None
    except (ValueError, OverflowError):
        return None, texts


def _sessions(names: Iterable[str] | None) -> NDArray[np.int64] | None:
    """Sessions as integers where all are, else numbered by first sight; blank is -1."""
    if names is None:
        return None
    texts = list(names)
    ids, _ = _numbered(text or "-1" for text in texts)
    if ids is not None:
        return ids
    seen: dict[str, int] = {}
    return np.asarray([seen.setdefault(text, len(seen)) if text else -1 for text in texts], dtype=np.int64)
