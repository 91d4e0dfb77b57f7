"""Folders of measurements: one CSV a kind of operator beside a device.toml, checked cell by cell as they are read."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.measurement_bounds import bounds
from calibration.measurement_kinds import KINDS, Column, Kind, Value, cell
from hardware_models.errors import FleetcastError

if TYPE_CHECKING:
    import pandas as pd

    from hardware_models.specs import GpuSpec

DEVICE_FILE = "device.toml"
SKIPPED_FILE = "skipped.csv"
SCHEMA = 1
DEVICE_KEYS = ("device", "date", "units")
Row = dict[str, Value]


def read_measurements(folder: Path, expect_device: str | None = None) -> dict[str, pd.DataFrame]:
    """The frames of a folder by kind, one row a point, columns as `measurement_kinds.KINDS` names them.

    Raises FleetcastError, naming file, row (1 is the header) and column, for a file that is empty, cut short, not
    numeric or out of range, for times that the device cannot have taken, for a point that stands there twice with
    different values, and for a folder of another device than `expect_device`.
    """
    import pandas as pd

    folder = Path(folder)
    device = read_device(folder)
    if expect_device is not None and device["device"] != expect_device:
        raise FleetcastError(
            f"{folder / DEVICE_FILE}: device = '{device['device']}' where '{expect_device}' was expected;"
            " give the folder of that device"
        )
    _refuse_unknown_files(folder)
    limits = _Limits(str(device["device"]))
    frames = {}
    for kind in KINDS.values():
        path = folder / kind.file_name
        if path.exists():
            rows = _checked(path, kind, limits)
            names = [column.name for column in kind.columns if any(column.name in row for row in rows)]
            frames[kind.name] = pd.DataFrame(rows, columns=names)
    if not frames:
        raise FleetcastError(f"{folder}: holds no measurement file; `fleetcast calibrate measure --out` writes them")
    return frames


def read_device(folder: Path) -> dict[str, Any]:
    """The folder's device.toml; raises FleetcastError where it is missing or lacks a key."""
    path = folder / DEVICE_FILE
    try:
        device = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetcastError(f"{path}: cannot be read ({error.strerror}); give a folder of measurements") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FleetcastError(f"{path}: is not valid TOML: {error}") from error
    if device.get("schema") != SCHEMA:
        raise FleetcastError(f"{path}: schema = {device.get('schema')!r}; this version reads schema = {SCHEMA}")
    for key in DEVICE_KEYS:
        if not isinstance(device.get(key), str) or not device[key]:
            raise FleetcastError(f"{path}: key '{key}' is missing; add it as text")
    if device["units"] != "SI":
        raise FleetcastError(f"{path}: units = '{device['units']}'; convert the folder to SI and write units = 'SI'")
    return device


def read_rows(path: Path, kind: Kind) -> Iterator[tuple[int, Row]]:
    """Line number and values of each row; raises FleetcastError at the first cell that is wrong."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FleetcastError(f"{path}: is not a readable CSV file ({error}); measure it anew") from error
    if not lines:
        raise FleetcastError(f"{path}: is empty; delete it or measure it anew")
    columns = _header(path, kind, lines[0])
    if len(lines) == 1:
        raise FleetcastError(f"{path}: has a header and no row; delete it or measure it anew")
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(columns):
            raise FleetcastError(
                f"{path}, row {number}: has {len(cells)} cells where the header names {len(columns)}; the file was cut"
                " short or edited: delete the row or measure it anew"
            )
        yield (
            number,
            {column.name: _value(path, number, column, text) for column, text in zip(columns, cells, strict=True)},
        )


def write_rows(path: Path, kind: Kind, rows: list[Row]) -> None:
    """Write a whole file of a kind; optional columns stand there where the first row has them."""
    names = [column.name for column in kind.columns if not column.optional or column.name in rows[0]]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([[cell(row[name]) for name in names] for row in rows])


def write_device(folder: Path, values: dict[str, Any]) -> None:
    """Write device.toml: text, numbers, and tables of them; `schema` and `units` are added."""
    folder.mkdir(parents=True, exist_ok=True)
    complete = {"schema": SCHEMA, "units": "SI"} | values
    plain = [f"{key} = {_toml(value)}" for key, value in complete.items() if not isinstance(value, dict)]
    for key, table in complete.items():
        if isinstance(table, dict):
            plain += ["", f"[{key}]", *(f"{_toml(name)} = {_toml(value)}" for name, value in table.items())]
    (folder / DEVICE_FILE).write_text("\n".join(plain) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Limits:
    """Datasheet of the measured device, where the catalog has one."""

    def __init__(self, device: str) -> None:
        from hardware_models import catalog

        self.spec: GpuSpec | None = catalog.gpu(device) if device in catalog.names("gpu") else None
        self.link_bytes_per_s = catalog.link(self.spec.pcie).bandwidth_bytes_per_s if self.spec else None

    def check(self, path: Path, number: int, kind: Kind, row: Row) -> None:
        try:
            believable = bounds(kind.name, row, self.spec, self.link_bytes_per_s)
        except FleetcastError as error:
            raise FleetcastError(f"{path}, row {number}: {error}") from None
        mistake = believable.mistake(float(row["seconds"])) if believable else None
        if mistake:
            raise FleetcastError(f"{path}, row {number}, column seconds = {cell(row['seconds'])}: {mistake}")


def _checked(path: Path, kind: Kind, limits: _Limits) -> list[Row]:
    """Rows of a file, each once."""
    seen: dict[tuple[Value, ...], tuple[int, Row]] = {}
    for number, row in read_rows(path, kind):
        limits.check(path, number, kind, row)
        key = tuple(row[column.name] for column in kind.keys)
        first, before = seen.setdefault(key, (number, row))
        if before != row:
            differing = next(name for name in row if row[name] != before.get(name))
            raise FleetcastError(
                f"{path}, row {number}, column {differing}: the point of row {first} again, with another value;"
                " delete one of the two"
            )
    return [row for _, row in seen.values()]


def _header(path: Path, kind: Kind, header: list[str]) -> list[Column]:
    known = {column.name: column for column in kind.columns}
    for name in header:
        if name not in known:
            raise FleetcastError(f"{path}, row 1: unknown column '{name}'; known: {', '.join(known)}")
        if header.count(name) > 1:
            raise FleetcastError(f"{path}, row 1: column '{name}' stands there twice; delete one")
    for column in kind.columns:
        if column.name not in header and not column.optional:
            raise FleetcastError(f"{path}, row 1: column '{column.name}' is missing; add it")
    return [known[name] for name in header]


def _value(path: Path, number: int, column: Column, text: str) -> Value:
    try:
        return column.parse(text)
    except ValueError as error:
        raise FleetcastError(f"{path}, row {number}, column {column.name} = '{text}': {error}") from None


def _refuse_unknown_files(folder: Path) -> None:
    known = {kind.file_name for kind in KINDS.values()} | {SKIPPED_FILE}
    for path in sorted(folder.glob("*.csv")):
        if path.name not in known:
            raise FleetcastError(f"{path}: is no file of measurements; known: {', '.join(sorted(known))}")
