"""Traces in JSON: tells Mooncake's lines from vLLM's benchmark results by their keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hardware_models.errors import FleetcastError
from workloads.request import RequestTable
from workloads.traces import mooncake, vllm_bench
from workloads.traces.source import TraceFile

Reader = Callable[[TraceFile, float | None, int], RequestTable]

JSON_FORMATS: dict[str, tuple[frozenset[str], Reader]] = {
    "Mooncake JSON lines": (frozenset(mooncake.KEYS), mooncake.read),
    "vLLM bench detailed JSON": (frozenset(vllm_bench.KEYS), vllm_bench.read),
}


def read_json(file: TraceFile, request_rate: float | None, seed: int) -> RequestTable:
    """Read a JSON or JSON-lines trace in whichever format its keys show."""
    keys = _first_keys(file)
    reader = max(JSON_FORMATS.values(), key=lambda entry: len(entry[0] & keys))
    if not reader[0] & keys:
        known = "; ".join(f"{name} ({', '.join(sorted(needed))})" for name, (needed, _) in JSON_FORMATS.items())
        named = ", ".join(sorted(keys)[:8]) or "none"
        raise FleetcastError(f"{file.path}: the JSON keys '{named}' are of no known trace format; known are {known}")
    return reader[1](file, request_rate, seed)


def _first_keys(file: TraceFile) -> set[str]:
    """Keys of the first line where that is an object in itself, else of the whole file."""
    text = file.text()
    skipped = len(text) - len(text.lstrip())
    first = text[skipped:].split("\n", 1)[0]
    parsed: Any
    try:
        parsed = json.loads(first)
    except ValueError:
        parsed = _whole(file, text, first)
    if isinstance(parsed, list):
        raise FleetcastError(f"{file.path}: is one JSON array; write one request, in braces, a line instead")
    return set(parsed) if isinstance(parsed, dict) else set()


def _whole(file: TraceFile, text: str, first: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        line = text.count("\n", 0, len(text) - len(text.lstrip())) + 1 if '"input_length"' in first else err.lineno
        raise FleetcastError(
            f"{file.path}, line {line}: is not JSON ({err.msg}); mend the line or write the file again"
        ) from None
