"""Outcomes as Parquet parts of a folder: each written whole or not at all, few in number however long a sweep takes.

A row is a point's address and what came of it, so that any sweep can use the parts of any other. Parts of one size
class are merged when there are many (as log-structured stores do), so that slow points do not leave a file each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hardware_models.errors import FleetcastError
from sim.sweep.columns import VALUE_COLUMNS
from sim.sweep.point import FAILED, Job, Outcome

TEXTS = ("status", "reason", "grade", "bottleneck")
PART_SCHEMA = pa.schema(
    [("point_id", pa.string())]
    + [(name, pa.string()) for name in TEXTS]
    + [(name, pa.float64()) for name in VALUE_COLUMNS]
    + [("wall_s", pa.float64())]
)
MERGED = 64  # parts of a class that become one of the next
READINGS = 5  # of a folder whose parts are being merged


def part_table(rows: Iterable[tuple[Job, Outcome]]) -> pa.Table:
    """Rows as a table of PART_SCHEMA."""
    rows = list(rows)
    columns: list[Any] = [[job.point_id for job, _ in rows]]
    columns += [[getattr(outcome, name) for _, outcome in rows] for name in TEXTS]
    values = np.full((len(rows), len(VALUE_COLUMNS)), np.nan)
    for number, (_, outcome) in enumerate(rows):
        if outcome.figures:
            values[number] = outcome.figures
    columns += list(values.T)
    columns.append([outcome.wall_s for _, outcome in rows])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PART_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=PART_SCHEMA)


class Parts:
    """The parts of one folder; `parts/CLASS-NUMBER.parquet`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._ours: dict[Path, bool] = {}  # is it of this version? as far as that was looked at

    def open(self) -> None:
        """Make the folder, and clear away what a killed writer left."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(".*.tmp"):
            left.unlink()
        self._number = 1 + max((number for _, number, _ in self._files()), default=0)

    def append(self, table: pa.Table) -> None:
        """Write one more part; merges where there are many."""
        self._write(table, 0)
        for level in range(8):
            files = [path for size, _, path in self._files() if size == level]
            if len(files) >= MERGED:  # those of another version stay as they are
                files = [path for path in files if self._is_ours(path)]
            if len(files) < MERGED:
                return
            self._write(pa.concat_tables(map(_read, files)), level + 1)
            for path in files:  # a reader, or the next sweep after a crash, sees rows twice at worst
                path.unlink()

    def _write(self, table: pa.Table, level: int) -> None:
        write_parquet(table, self._folder / f"{level}-{self._number:08d}.parquet")
        self._number += 1

    def _is_ours(self, path: Path) -> bool:
        if path not in self._ours:
            with _named(path):
                self._ours[path] = pq.read_schema(path).equals(PART_SCHEMA)
        return self._ours[path]

    def _files(self) -> list[tuple[int, int, Path]]:
        """Class, number, path; in order of number."""
        found = []
        for path in self._folder.glob("*.parquet"):
            level, _, number = path.stem.partition("-")
            if level.isdigit() and number.isdigit():
                found.append((int(level), int(number), path))
        return sorted(found, key=lambda one: one[1])


def read_parts(folder: Path, wanted: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Rows of `folder/parts`, one an address, by address; a failure only where no answer is there.

    wanted: the addresses to keep; all where None. Parts of another version hold no wanted address and are passed over.
    Raises FleetcastError for a file that cannot be read.
    """
    for _ in range(READINGS):
        with suppress(FileNotFoundError):  # merged meanwhile
            return _one_an_address(_tables(folder / "parts", wanted))
    raise FleetcastError(f"{folder / 'parts'}: changes faster than it can be read; try again")


def _tables(folder: Path, wanted: Mapping[str, Any] | None) -> Iterator[pa.Table]:
    for path in sorted(folder.glob("*.parquet")):
        table = _read(path)
        if table.schema.equals(PART_SCHEMA):
            yield table if wanted is None else _only(table, wanted)


def _read(path: Path) -> pa.Table:
    with _named(path):
        return pq.read_table(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong with a part is said of it; that it is gone is for the caller to know."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0][:100]
        raise FleetcastError(f"{path}: cannot be read ({reason}); delete it, its points will run again") from None


def _one_an_address(tables: Iterable[pa.Table]) -> pd.DataFrame:
    frame: pd.DataFrame = pa.concat_tables([PART_SCHEMA.empty_table(), *tables]).to_pandas()
    frame = frame.iloc[np.argsort((frame["status"] != FAILED).to_numpy(), kind="stable")]
    return frame.drop_duplicates("point_id", keep="last").set_index("point_id")


def _only(table: pa.Table, wanted: Mapping[str, Any]) -> pa.Table:
    return table.filter(pa.array([address in wanted for address in table["point_id"].to_pylist()], pa.bool_()))


def write_parquet(table: pa.Table, path: Path) -> None:
    """Whole or not at all, and there for good once it is there."""
    building = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, building, compression="zstd")
    with building.open("rb") as file:
        os.fsync(file.fileno())
    building.replace(path)


def write_text(text: str, path: Path) -> None:
    """Whole or not at all."""
    building = path.with_name(f".{path.name}.tmp")
    building.write_text(text, encoding="utf-8")
    building.replace(path)
