"""The folder that points are appended to, one flushed line each, so that a run can stop anywhere and go on later."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

from calibration.measure.point import Key, Point, Sample
from calibration.measurement import SKIPPED_FILE, Row, read_rows
from calibration.measurement_kinds import KINDS, Kind, cell
from hardware_models.errors import FleetcastError

SKIPPED_HEADER = ("kind", "point", "reason", "detail")
NEVER_AGAIN = "fatal"  # the one reason that a later run respects: the point would stop it too


class Results:
    """Appends to the files of a folder; knows what stands there already."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.measured: dict[Key, Row] = {}
        for kind in KINDS.values():
            self._load(kind)
        self._fatal = self._keep_fatal()
        self.skipped: Counter[tuple[str, str]] = Counter()  # (kind, reason) of this run

    def add(self, point: Point, sample: Sample) -> None:
        """Append a measured point and put it on disk."""
        kind = KINDS[point.kind]
        row = dict(point.values) | dict(sample.more)
        row |= {"seconds": sample.seconds, "spread_s": sample.spread_s, "repeats": sample.repeats}
        cells = [cell(row.get(column.name, "")) for column in kind.columns]
        for column, text in zip(kind.columns, cells, strict=True):
            try:
                column.parse(text)
            except ValueError as error:
                raise ValueError(f"{column.name} = '{text}': {error}") from None
        self._append(kind.file_name, [column.name for column in kind.columns], cells)
        self.measured[point.key] = row

    def skip(self, point: Point, reason: str, detail: str) -> None:
        """Record why a point was not measured."""
        self.skipped[point.kind, reason] += 1
        if reason == NEVER_AGAIN and self.is_fatal(point):
            return  # stands there already
        line = " ".join(detail.split())[:300]
        self._append(SKIPPED_FILE, list(SKIPPED_HEADER), [point.kind, point.label(), reason, line])

    def is_fatal(self, point: Point) -> bool:
        """Whether an earlier run ended at this point."""
        return (point.kind, point.label()) in self._fatal

    def _append(self, name: str, header: list[str], cells: list[str]) -> None:
        path = self._folder / name
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if new:
                writer.writerow(header)
            writer.writerow(cells)
            stream.flush()
            os.fsync(stream.fileno())

    def _load(self, kind: Kind) -> None:
        path = self._folder / kind.file_name
        if not path.exists():
            return
        _drop_torn_line(path)
        header = path.read_text(encoding="utf-8").partition("\n")[0]
        expected = ",".join(column.name for column in kind.columns)
        if header != expected:
            raise FleetcastError(f"{path}: columns are '{header}', not '{expected}'; give a new folder")
        if path.read_text(encoding="utf-8").count("\n") == 1:
            return
        for _, row in read_rows(path, kind):
            self.measured[Point(kind=kind.name, values=row, level=0).key] = row

    def _keep_fatal(self) -> set[tuple[str, str]]:
        """Start skipped.csv anew with what ended a run: all else is tried again."""
        path = self._folder / SKIPPED_FILE
        if not path.exists():
            return set()
        _drop_torn_line(path)
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.reader(stream) if len(row) == len(SKIPPED_HEADER) and row[2] == NEVER_AGAIN]
        path.unlink()
        for row in rows:
            self._append(SKIPPED_FILE, list(SKIPPED_HEADER), row)
        return {(row[0], row[1]) for row in rows}


def _drop_torn_line(path: Path) -> None:
    """Remove a last line that a killed run did not finish."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        path.unlink()
    elif whole != content:
        path.write_bytes(whole)
