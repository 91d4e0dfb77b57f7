"""Outcomes on their way to a part, and answers that folders have already."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from hardware_models.errors import FleetcastError
from sim.sweep.local import Done
from sim.sweep.parts import PART_SCHEMA, Parts, part_table, read_parts
from sim.sweep.point import FAILED
from sim.sweep.points import Points

FLUSH_ROWS = 200
FLUSH_S = 2.0


class Rows:
    """Outcomes on their way to a part: at most FLUSH_ROWS of them, or FLUSH_S old, are in memory alone."""

    def __init__(self, folder: Path | None) -> None:
        self._parts = None if folder is None else Parts(folder / "parts")
        self._tables: list[pa.Table] = []  # without a folder
        self._buffer: list[Done] = []
        self._flushed_s = time.monotonic()
        if self._parts is not None:
            self._parts.open()

    def add(self, done: Done) -> None:
        """One more."""
        self._buffer.append(done)
        if len(self._buffer) >= FLUSH_ROWS:
            self.flush()

    def tick(self) -> None:
        """Time passes."""
        if time.monotonic() - self._flushed_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Keep what is there."""
        if self._buffer:
            self.keep(part_table(self._buffer))
            self._buffer = []
        self._flushed_s = time.monotonic()

    def keep(self, table: pa.Table) -> None:
        """Keep rows that are a table already."""
        if self._parts is None:
            self._tables.append(table)
        else:
            self._parts.append(table)

    def in_memory(self) -> pd.DataFrame:
        """Of a sweep without a folder, by address."""
        frame: pd.DataFrame = pa.concat_tables([PART_SCHEMA.empty_table(), *self._tables]).to_pandas()
        return frame.drop_duplicates("point_id", keep="last").set_index("point_id")


def check_reuse(folder: Path | None, reuse: Sequence[str | Path]) -> None:
    """Raise FleetcastError for a folder of no sweep; the sweep's own may be one that is still to come."""
    for place in map(Path, reuse):
        own = folder is not None and place.resolve() == folder.resolve()
        if not own and not (place / "parts").is_dir():
            raise FleetcastError(f"--reuse {place}: is no folder of a sweep (no parts); give one of sweep --out")


def known_rows(points: Points, folder: Path | None, reuse: Sequence[str | Path]) -> pd.DataFrame:
    """Answers that folders have, by address; failures are none. Raises FleetcastError for a folder of no sweep.

    Adds the column `own`: is it in the sweep's own folder?
    """
    check_reuse(folder, reuse)
    wanted = {point.point_id: None for point in points.points}
    frames = []
    for place in (*map(Path, reuse), *([] if folder is None else [folder])):
        own = folder is not None and place.resolve() == folder.resolve()
        frames.append(read_parts(place, wanted).assign(own=own))
    if not frames:
        nothing: pd.DataFrame = PART_SCHEMA.empty_table().to_pandas().set_index("point_id")
        return nothing.assign(own=pd.Series(dtype=bool))
    frame: pd.DataFrame = pd.concat([one for one in frames if len(one)] or frames[:1])
    answers: pd.DataFrame = frame[frame["status"] != FAILED]
    return answers[~answers.index.duplicated(keep="last")]
