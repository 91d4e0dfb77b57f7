"""What a simulation returns, and how it is written to a folder that anybody can read without Fleetcast."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hardware_models.errors import FleetcastError
from sim.scenario import Scenario
from sim.scenario_file import relocated, scenario_toml
from sim.section import NamedScenario

if TYPE_CHECKING:
    import pandas as pd

    from sim.serving.attribution import Attribution
    from sim.serving.simulate import ServingRun

RUN_FILES = (
    "scenario.toml", "summary.json", "requests.parquet", "steps.parquet", "power.parquet", "tasks.parquet",
    "memory.parquet", "report.html",
)  # fmt: skip
FileContent = str | Callable[[Path], object]  # text, or what writes the file at a path
ScenarioT = TypeVar("ScenarioT", bound=NamedScenario)


@dataclass
class RunResult(Generic[ScenarioT]):
    """What every kind of run returns: its scenario, its figures, and frames that are made when first asked for."""

    scenario: ScenarioT
    summary: dict[str, Any]

    @property
    def frames(self) -> tuple[str, ...]:
        """Attributes that are frames, each a file of its name; none, but where a kind of run has its own."""
        return ()

    def summary_json(self) -> str:
        """The summary as JSON; values that do not apply are null."""
        return json.dumps(without_nan(self.summary), indent=2, allow_nan=False)

    def write(self, folder: Path, extra: Mapping[str, FileContent] | None = None) -> None:
        """Write scenario.toml, summary.json, each of `frames` as Parquet and `extra` files, all or nothing.

        The folder is built beside its place and renamed into it; raises FleetcastError where that cannot be.
        """
        contents: dict[str, FileContent] = {
            "scenario.toml": scenario_toml(relocated(self.scenario, folder.resolve())),
            "summary.json": self.summary_json() + "\n",
            **{f"{name}.parquet": self._frame_writer(name) for name in self.frames},
            **(extra or {}),
        }
        check_run_folder(folder, contents)
        write_folder(folder, contents)

    def _frame_writer(self, name: str) -> Callable[[Path], object]:
        return lambda path: getattr(self, name).to_parquet(path, index=False)


@dataclass
class Result(RunResult[Scenario]):
    """A run of serving."""

    run: ServingRun = field(repr=False)
    request_columns: dict[str, Any] = field(repr=False)
    attributions: list[Attribution] = field(repr=False)  # one a pipeline stage

    @property
    def frames(self) -> tuple[str, ...]:
        """Requests, steps, and watts where a row is metered or replicas come and go."""
        metered = self.summary["power"] is not None or "scaler" in self.summary
        return ("requests", "steps", "power") if metered else ("requests", "steps")

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request; columns as in sim.serving.results.REQUEST_COLUMNS."""
        import pandas as pd

        return pd.DataFrame(self.request_columns)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row a run of equal steps; see sim.serving.results.steps_frame."""
        from sim.serving.results import steps_frame

        return steps_frame(self.run.runs, self.attributions, self.run.deployment)

    @cached_property
    def power(self) -> pd.DataFrame:
        """One row a reading of the row and of each server; see sim.power.account.power_frame. Where replicas come and
        go, one a window of the cluster and of each tensor-parallel size: sim.power.scaled_account.scaled_frame.
        """
        from sim.power.account import power_frame
        from sim.power.scaled_account import scaled_frame

        if "scaler" in self.summary:
            return scaled_frame(self.run, self.attributions, self.summary["duration_s"])
        return power_frame(self.run.power)


def write_folder(folder: Path, contents: Mapping[str, FileContent]) -> None:
    """Write files into a folder of their own, all or nothing, in place of what was there (see `check_run_folder`).

    Raises FleetcastError where that cannot be.
    """
    try:
        with _new_folder(folder.resolve()) as building:
            for name, content in contents.items():
                (building / name).parent.mkdir(exist_ok=True)
                if isinstance(content, str):
                    (building / name).write_text(content, encoding="utf-8")
                else:
                    content(building / name)
    except OSError as error:
        raise FleetcastError(
            f"--out {folder}: cannot be written ({error.strerror}); give a folder that may be made"
        ) from None


def check_run_folder(folder: Path, extra: Iterable[str] = ()) -> None:
    """Refuse a place that holds anything but an earlier run (with files named as `extra`) or nothing."""
    try:
        place = folder.resolve()
        if place == Path.cwd():
            raise FleetcastError(f"--out {folder}: is the folder you are in; give one inside it, such as runs/1")
        if place.exists() and not place.is_dir():
            raise FleetcastError(f"--out {folder}: is a file; give a folder that is absent, empty or an earlier run")
        if place.is_dir():
            _check_entries(folder, {entry.name for entry in place.iterdir()}, {*RUN_FILES, *extra})
        ground = next(ancestor for ancestor in place.parents if ancestor.exists())
        if not ground.is_dir() or not os.access(ground, os.W_OK | os.X_OK):
            what = "may not be written to" if ground.is_dir() else "is a file"
            raise FleetcastError(f"--out {folder}: {ground} {what}; give a folder elsewhere")
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        reason = error.strerror if isinstance(error, OSError) else "its links run in a circle"
        raise FleetcastError(f"--out {str(folder)[:100]}: cannot be a folder ({reason}); give another") from None


def _check_entries(folder: Path, entries: set[str], ours: set[str]) -> None:
    foreign = sorted(entries - ours)
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise FleetcastError(
            f"--out {folder}: holds '{foreign[0]}'{more}, which this run would not write; give a folder that is absent,"
            " empty or an earlier run"
        )


@contextmanager
def _new_folder(place: Path) -> Iterator[Path]:
    """A folder to fill, moved to its place at the end; a failure leaves nothing of it, and what was there stays."""
    made = [ancestor for ancestor in place.parents if not ancestor.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    building = place.with_name(f".{place.name[:100]}-{secrets.token_hex(4)}")
    try:
        building.mkdir()
        yield building
        _swap(building, place)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        for ancestor in made:
            with suppress(OSError):
                ancestor.rmdir()
        raise


def _swap(building: Path, place: Path) -> None:
    if not place.exists():
        building.rename(place)
        return
    earlier = building.with_name(f"{building.name}-earlier")
    place.rename(earlier)
    try:
        building.rename(place)
    except BaseException:
        earlier.rename(place)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def without_nan(value: Any) -> Any:
    """With None for every number that is not finite, as JSON wants it."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
