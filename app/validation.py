"""Results of studies as a file and as a table: what `fleetcast validate` found, when, and with which simulator."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from hardware_models.errors import FleetcastError
from sim.identity import simulator_fingerprint
from sim.study import FOLDER, Row, load_study

SHIPPED = FOLDER / "validation.json"
REMEDY = "make it anew with `make validation`"
SCHEMA = 1
COLUMNS = (
    "study", "point", "metric", "unit", "simulated", "low", "high", "published_low", "published_high",
    "error_fraction", "in_sample", "source", "assumed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Validation:
    """Rows of studies, in the order of their points."""

    date: str  # ISO
    version: str  # of Fleetcast
    simulator: str  # its fingerprint
    rows: tuple[Row, ...]

    @classmethod
    def now(cls, rows: Iterable[Row]) -> Validation:
        """By this simulator, today."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        return cls(today, version("fleetcast"), simulator_fingerprint(), tuple(rows))

    @property
    def current(self) -> bool:
        """Is it of the simulator as it is now, code and data?"""
        return self.simulator == simulator_fingerprint()

    def said(self) -> str:
        """When and with what, and whether that is still what would come out."""
        when = f"Simulated with version {self.version} on {self.date}."
        return (
            when if self.current else f"{when} The simulator has changed since; `make validation` simulates all anew."
        )

    def write(self, path: Path) -> None:
        """Put it in its place; raises FleetcastError where that cannot be."""
        head = {"schema": SCHEMA, "date": self.date, "version": self.version, "simulator": self.simulator}
        rows = ",\n".join(f"  {json.dumps(record(row))}" for row in self.rows)
        text = json.dumps(head)[:-1] + f', "rows": [\n{rows}\n]}}\n'
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            built = path.with_name(f".{path.name}.part")
            built.write_text(text, encoding="utf-8")
            built.replace(path)
        except OSError as error:
            raise FleetcastError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def read_validation(path: Path = SHIPPED) -> Validation:
    """A file of results; raises FleetcastError for one that is none."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["schema"] != SCHEMA:
            raise FleetcastError(f"{path}: schema = {table['schema']} is not known; {REMEDY}")
        rows = tuple(row_of(item) for item in table["rows"])
        return Validation(table["date"], table["version"], table["simulator"], rows)
    except OSError as error:
        raise FleetcastError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise FleetcastError(f"{path}: is no file of validation results ({error}); {REMEDY}") from None


def record(row: Row) -> dict[str, Any]:
    """A row as JSON has it: absent figures are null."""
    found = {name: getattr(row, name) for name in row.__dataclass_fields__}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in found.items()}


def row_of(item: Mapping[str, Any]) -> Row:
    """A row of its record; raises KeyError or TypeError for what is none."""
    table: dict[str, Any] = {key: math.nan if value is None else value for key, value in item.items()}
    return Row(**table)


def rows_in(text: str) -> Iterator[Row]:
    """Rows of what `fleetcast validate --json` has printed so far: a line each, of which the last may be half a one."""
    for line in text.splitlines():
        with suppress(ValueError):
            if line.startswith("{"):
                yield row_of(json.loads(line.rstrip(",")))


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """A row a point: its study, figures (simulated, with the band of what was assumed), and the error as a share of
    what was published, NaN where nothing was.
    """
    return pd.DataFrame(
        [[getattr(row, name) if name != "assumed" else json.dumps(row.assumed) for name in COLUMNS] for row in rows],
        columns=list(COLUMNS),
    )


def ranges_met(ranged: pd.DataFrame) -> int:
    """How many published ranges meet the band of what was simulated."""
    return int(((ranged["low"] <= ranged["published_high"]) & (ranged["published_low"] <= ranged["high"])).sum())


def overview(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a study: its title and paper, how many figures are published, how far off the unfitted ones are, and how
    many of those that a paper gives as a range are met.
    """
    rows = []
    for name, part in frame.groupby("study", sort=False):
        study = load_study(str(name))
        published = part[part["published_low"].notna()]
        judged = published[~published["in_sample"].astype(bool)]
        ranged = judged["published_low"] < judged["published_high"]
        errors = judged["error_fraction"].abs()[~ranged]
        rows.append(
            {
                "study": name,
                "title": study.title,
                "paper": study.paper,
                "points": len(part),
                "figures": len(published),
                "judged": len(judged),
                "ranges": int(ranged.sum()),
                "ranges_met": ranges_met(judged[ranged]),
                "median_error_fraction": errors.median() if len(errors) else math.nan,
                "worst_error_fraction": errors.max() if len(errors) else math.nan,
            }
        )
    return pd.DataFrame(rows)
