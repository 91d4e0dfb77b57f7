"""A sweep's folder: what may be in it, who writes to it, and its rows read back.

sweep.toml (what was asked, from any folder), points.parquet (index, point_id, seed, axes), parts/ (outcomes by
address), progress.json; at the end results.parquet, best.toml and report.html.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hardware_models.errors import FleetcastError
from sim.result import check_run_folder
from sim.scenario_file import read_toml, toml_value
from sim.sweep.columns import VALUE_COLUMNS, columns_of
from sim.sweep.parts import TEXTS, read_parts, write_parquet
from sim.sweep.points import Points

SPEC, POINTS, RESULTS, BEST, REPORT = "sweep.toml", "points.parquet", "results.parquet", "best.toml", "report.html"
LOCK = ".lock"
AT_THE_END = (RESULTS, BEST, REPORT)
FILES = (SPEC, POINTS, "parts", "progress.json", *AT_THE_END, LOCK)


def check_sweep_folder(folder: Path) -> None:
    """Refuse a place that holds anything but an earlier sweep or nothing; raises FleetcastError."""
    check_run_folder(folder, (*FILES, *(f".{name}.tmp" for name in FILES)))
    if (folder / "summary.json").exists():
        raise FleetcastError(f"--out {folder}: is the folder of a run; give one that is absent, empty or of a sweep")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One sweep at a time writes to a folder; the lock ends with its process, whatever that dies of."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise FleetcastError(f"--out {folder}: cannot be written ({error.strerror}); give another folder") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FleetcastError(f"--out {folder}: another sweep is writing to it; wait for it or stop it") from None
        yield
    finally:
        os.close(handle)


def points_table(points: Points) -> pa.Table:
    """index, point_id, seed, and a column an axis: numbers, texts and truths as they are, the rest as TOML."""
    rows = points.points
    columns: dict[str, Any] = {
        "index": pa.array([point.index for point in rows], pa.int64()),
        "point_id": pa.array([point.point_id for point in rows], pa.string()),
        "seed": pa.array([point.seed for point in rows], pa.int64()),
    }
    for number, key in enumerate(points.sweep.keys):
        columns[key] = _axis_column([points.settings[point.setting][number] for point in rows])
    return pa.table(columns)


def results_table(points: pa.Table, rows: pd.DataFrame, columns: Sequence[str] = VALUE_COLUMNS) -> pa.Table:
    """Points with what came of them, in the points' order; a point without a row is left out.

    rows: by address, as of `read_parts`. columns: of its values.
    """
    frame = points.to_pandas()
    frame = frame[frame["point_id"].isin(rows.index)]
    table = points.take(pa.array(frame.index.to_numpy(), pa.int64()))
    found = rows.loc[frame["point_id"]]
    for name in TEXTS:
        table = table.append_column(name, pa.array(found[name].to_numpy(), pa.string()))
    for name in columns:
        table = table.append_column(name, pa.array(found[name].to_numpy(), pa.float64(), from_pandas=True))
    return table


def read_sweep(folder: Path) -> pd.DataFrame:
    """Rows of a sweep's folder so far, of a running sweep too; see docs/sweeps.md. Raises FleetcastError."""
    path = folder / POINTS
    try:
        points = pq.read_table(path)
    except FileNotFoundError:
        raise FleetcastError(f"{folder}: is no folder of a sweep (no {POINTS}); make one with sweep --out") from None
    except (OSError, pa.ArrowException) as error:
        raise FleetcastError(f"{path}: cannot be read ({str(error)[:100]}); run the sweep again") from None
    wanted = dict.fromkeys(points["point_id"].to_pylist())
    columns = columns_of(read_toml(folder / SPEC)["scenario"])
    frame: pd.DataFrame = results_table(points, read_parts(folder, wanted), columns).to_pandas()
    return frame


def start_folder(folder: Path, points: Points) -> None:
    """Write what was asked, and clear away what an earlier sweep said at its end."""
    for name in AT_THE_END:
        (folder / name).unlink(missing_ok=True)
    (folder / SPEC).write_text(points.sweep.toml(), encoding="utf-8")
    write_parquet(points_table(points), folder / POINTS)


def _axis_column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(abs(value) < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([float(value) for value in values], pa.float64())
    if kinds == {str}:
        return pa.array(values, pa.string())
    return pa.array([toml_value(value) for value in values], pa.string())
