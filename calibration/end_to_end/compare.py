"""Measured servers against simulated ones, a row a system and metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from calibration.end_to_end.closed_loop import ClosedLoop, play
from calibration.end_to_end.open_loop import open_loop_runs, replay
from calibration.sources.serving_tables import PRECISIONS, closed_loop_table

POINT = ("engine", "model", "node", "tensor_parallel_size", "concurrency", "prompt_tokens", "output_tokens",
         "weight_dtype", "scheduler")  # fmt: skip
JUDGED = (4,)  # tensor-parallel sizes that no engine profile was fitted on
COLUMNS = ["system", "metric", "points", "median", "p90", "bias", "coverage"]


def serving_errors(data: Path) -> pd.DataFrame:
    """Columns COLUMNS: errors are shares of the measured value, coverage that of 90 % intervals.

    data: folder of published tables. Closed-loop points are judged at the tensor-parallel sizes no profile was fitted
    on. Where their precision is not stated, errors are those of reading it as bf16, and the interval spans the
    predictions for bf16 and fp8 with their error bars. A replayed trace counts by its means, as one point.
    """
    by_system = _closed_loop(data).groupby("system", sort=True)
    rows = [_row(str(system), part) for system, part in by_system]
    for run in open_loop_runs(data):
        for metric, (measured, predicted, low, high) in replay(run).items():
            inside = float(low <= measured <= high)
            error = predicted / measured - 1.0
            rows.append([run.name, metric, 1, abs(error), abs(error), error, inside])
    return pd.DataFrame(rows, columns=COLUMNS)


def _closed_loop(data: Path) -> pd.DataFrame:
    table = closed_loop_table(data)
    table = table[table["tensor_parallel_size"].isin(JUDGED)]
    served = [
        [play(ClosedLoop(**{name: row[name] for name in POINT} | {"weight_dtype": precision})) for precision in
         ([row["weight_dtype"]] if row["stated"] else PRECISIONS)]
        for _, row in table.iterrows()
    ]  # fmt: skip
    formats = np.where(table["stated"], table["weight_dtype"], " or ".join(PRECISIONS))
    return table.assign(
        system=table["engine"] + ", " + table["model"] + " " + formats + ", H100",
        predicted=[one[0].tpot_s for one in served],
        low=[min(s.tpot_low_s for s in one) for one in served],
        high=[max(s.tpot_high_s for s in one) for one in served],
    )


def _row(system: str, part: pd.DataFrame) -> list[str | float]:
    measured = part["tpot_s"]
    error = part["predicted"] / measured - 1.0
    inside = (measured >= part["low"]) & (measured <= part["high"])
    return [system, "TPOT", len(part), float(error.abs().median()), float(error.abs().quantile(0.9)),
            float(error.median()), float(inside.mean())]  # fmt: skip
