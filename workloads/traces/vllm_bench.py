"""Results of `vllm bench serve --save-detailed`, replayed as a trace."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.errors import FleetcastError
from workloads.request import RequestTable
from workloads.traces.source import TraceFile
from workloads.traces.table import poisson_arrivals

KEYS = ("input_lens", "output_lens")


def read(file: TraceFile, request_rate: float | None, seed: int) -> RequestTable:
    """Read the per-request lists; start times (s) count from the first, failed requests (0 output) are dropped.

    Results without start times take the file's own `request_rate`, where that is finite, for Poisson arrivals.
    """
    where = str(file.path)
    try:
        result = json.loads(file.text())
    except json.JSONDecodeError as err:
        raise FleetcastError(
            f"{where}, line {err.lineno}: is not JSON ({err.msg}); write the benchmark result again"
        ) from None
    prompt = _column(where, result, "input_lens", 1)
    output = _column(where, result, "output_lens", 0)
    if len(prompt) != len(output):
        raise FleetcastError(
            f"{where}: input_lens has {len(prompt)} values and output_lens {len(output)}; give one each a request"
        )
    keep = np.flatnonzero(output > 0)
    if not keep.size:
        raise FleetcastError(f"trace {where} holds no requests with output tokens; give at least one")
    lost = len(output) - keep.size
    return RequestTable.build(
        source=where,
        arrival_s=_arrivals(where, result, keep=keep, count=len(output), request_rate=request_rate, seed=seed),
        prompt_tokens=prompt[keep],
        output_tokens=output[keep],
        notes=(f"dropped {lost} of {len(output)} requests, which have 0 output tokens",) if lost else (),
    )


def _arrivals(
    where: str, result: dict[str, Any], *, keep: NDArray[np.intp], count: int, request_rate: float | None, seed: int
) -> NDArray[np.float64]:
    if request_rate is None and "start_times" in result:
        start = _column(where, result, "start_times", -np.inf, whole=False)
        if len(start) != count:
            raise FleetcastError(f"{where}: start_times has {len(start)} values for {count} requests; give one each")
        return np.asarray((start - start.min())[keep], dtype=np.float64)
    rate = request_rate if request_rate is not None else result.get("request_rate")
    if isinstance(rate, (int, float)) and 0 < rate < np.inf:
        return poisson_arrivals(keep.size, float(rate), seed)
    if request_rate is not None:
        return poisson_arrivals(keep.size, request_rate, seed)
    raise FleetcastError(
        f"{where}: holds lengths but no start_times; give request_rate, in requests per second, to draw "
        "Poisson arrivals"
    )


def _column(where: str, result: Any, key: str, least: float, *, whole: bool = True) -> NDArray[np.float64]:
    values = result.get(key) if isinstance(result, dict) else None
    if not isinstance(values, list) or not values:
        raise FleetcastError(f"{where}: {key} is no list of numbers; run the benchmark with --save-detailed")
    for index, value in enumerate(values):
        if type(value) not in (int, float) or not least <= value < np.inf or (whole and value != int(value)):
            kind = f"a whole number of at least {least:g}" if whole else "a time in seconds"
            raise FleetcastError(f"{where}: {key}[{index}] is {json.dumps(value)}; give {kind}")
    return np.asarray(values, dtype=np.float64)
