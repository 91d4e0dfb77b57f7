"""Mooncake traces (kvcache-ai/Mooncake): one JSON object a line, with a hash for every 512 tokens of prompt."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from hardware_models.errors import FleetcastError
from workloads.request import RequestTable
from workloads.traces.source import TraceFile
from workloads.traces.table import poisson_arrivals

BLOCK_TOKENS = 512
KEYS = ("timestamp", "input_length", "output_length")


def read(file: TraceFile, request_rate: float | None, seed: int) -> RequestTable:
    """Read the lines; `timestamp` is ms; requests with 0 output tokens are dropped and counted."""
    where = str(file.path)
    lines = file.text().split("\n")
    numbers = [number for number, line in enumerate(lines, start=1) if line.strip()]
    rows = _parsed(where, lines, numbers)
    hashed = "hash_ids" in rows[0]
    needed = [key for key in KEYS if key != "timestamp" or request_rate is None]
    columns = {key: np.array([_value(row, key) for row in rows]) for key in needed}
    if not all(_valid(key, column) for key, column in columns.items()) or (hashed and not _hashed(rows)):
        _explain(where, rows, numbers, needed, hashed)
    keep = np.flatnonzero(columns["output_length"] > 0)
    if not keep.size:
        raise FleetcastError(f"trace {where} holds no requests with output tokens; give at least one")
    lost = len(rows) - keep.size
    notes = (f"dropped {lost} of {len(rows)} requests, which have 0 output tokens",) if lost else ()
    arrival = columns["timestamp"] / 1e3 if request_rate is None else None
    return RequestTable.build(
        source=where,
        arrival_s=poisson_arrivals(keep.size, request_rate, seed) if arrival is None else arrival[keep],  # type: ignore[arg-type]
        prompt_tokens=columns["input_length"][keep],
        output_tokens=columns["output_length"][keep],
        prefix_hashes=[rows[i]["hash_ids"] for i in keep] if hashed else None,
        prefix_block_tokens=BLOCK_TOKENS if hashed else None,
        notes=notes,
    )


def _parsed(where: str, lines: list[str], numbers: list[int]) -> list[dict[str, Any]]:
    """All lines in one go, or one by one to find the broken one."""
    try:
        rows = json.loads("[" + ",".join(lines[n - 1] for n in numbers) + "]")
    except ValueError:
        rows = []
    if len(rows) == len(numbers) and all(type(row) is dict for row in rows):
        return rows  # type: ignore[no-any-return]
    rows = []
    for number in numbers:
        try:
            row = json.loads(lines[number - 1])
        except ValueError as err:
            raise FleetcastError(f"{where}, line {number}: is not JSON ({err}); mend or delete the line") from None
        if not isinstance(row, dict):
            raise FleetcastError(f"{where}, line {number}: is not a JSON object; give one request, in braces, a line")
        rows.append(row)
    return rows


def _value(row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _valid(key: str, column: np.ndarray[Any, Any]) -> bool:
    least = 1 if key == "input_length" else 0
    whole = key == "timestamp" or bool(np.all(column == np.floor(column)))
    return whole and bool(np.all((column >= least) & (column < np.inf)))


def _hashed(rows: list[dict[str, Any]]) -> bool:
    return all(
        type(ids) is list and all(type(one) is int for one in ids) for ids in (row.get("hash_ids") for row in rows)
    )


EXPECTED = {
    "timestamp": "a time in milliseconds, at least 0",
    "input_length": "a whole number of tokens, at least 1",
    "output_length": "a whole number of tokens, at least 0",
}


def _explain(where: str, rows: list[dict[str, Any]], numbers: list[int], needed: list[str], hashed: bool) -> None:
    for number, row in zip(numbers, rows, strict=True):
        for key in needed:
            if not _valid(key, np.array([_value(row, key)])):
                given = f"is {json.dumps(row[key])}" if key in row else "is missing"
                raise FleetcastError(f"{where}, line {number}: {key} {given}; give {EXPECTED[key]}")
        if hashed and not _hashed([row]):
            raise FleetcastError(f"{where}, line {number}: hash_ids is no list of integers; give one a block")
