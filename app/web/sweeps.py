"""The sweeps that the app keeps: checked, started as the command line would, found again by what they ask."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.web.examples import FOLDER
from app.web.guard import check_depth, safe_tables
from app.web.jobs import Job, JobState, read_json, write_json
from app.web.settings import Settings
from app.web.store import RUN_ID, Store
from app.web.sweep_draft import SweepDraft
from app.web.url_state import full_example
from hardware_models.errors import FleetcastError
from sim.identity import HEX_DIGITS, simulator_fingerprint
from sim.scenario_file import read_toml
from sim.sweep.definition import Sweep, load_sweep, make_sweep, put
from sim.sweep.points import expand

EXAMPLES = FOLDER / "sweeps"
EXAMPLE = "token-budget"
FILE = "sweep.toml"  # in the folder of a job
SIMULATOR = "simulator.json"
EXPANDED_KEPT = 50
MOST_POINTS = 5000  # of a sweep that a page starts
MOST_KEPT = 200


class Expanded(NamedTuple):
    """What there is to a sweep's points."""

    points: int
    identity: str  # of all of them


_EXPANDED: dict[str, Expanded] = {}  # what was asked last


@dataclass(frozen=True, slots=True)
class KeptSweep:
    """One sweep of the store."""

    sweep_id: str
    folder: Path  # of its rows
    job_folder: Path

    @property
    def job(self) -> Job | None:
        """The command that ran or runs it."""
        return Job.read(self.job_folder)

    @property
    def state(self) -> JobState:
        """Of that command."""
        job = self.job
        return job.poll() if job is not None else JobState("died")

    @property
    def current(self) -> bool:
        """Is it this very simulator's?"""
        return (read_json(self.job_folder / SIMULATOR) or {}).get("simulator") == simulator_fingerprint()

    @property
    def readable(self) -> bool:
        """Are its files what a sweep writes?"""
        try:
            return bool(self.definition().name and self.state.name and self.progress() is not None)
        except FleetcastError:
            return False

    def definition(self) -> Sweep:
        """What was asked; raises FleetcastError."""
        return load_sweep(self.job_folder / FILE)

    def progress(self) -> Mapping[str, Any]:
        """progress.json; empty before there is one."""
        return read_json(self.folder / "progress.json", ("state", "total", "done", "failed", "elapsed_s")) or {}


def kept(store: Store, sweep_id: str) -> KeptSweep:
    """A sweep by its identity; raises FleetcastError for one that is not there."""
    if not RUN_ID.fullmatch(sweep_id):
        raise FleetcastError(f"'{sweep_id[:60]}': is no identity of a sweep; give sixteen hexadecimal digits")
    found = _kept(store, sweep_id)
    if not (found.job_folder / FILE).is_file():
        raise FleetcastError(f"sweep {sweep_id}: is not kept here (any more); start it again")
    return found


def all_kept(store: Store) -> list[KeptSweep]:
    """The newest first, without damaged ones."""
    folders = [path for path in store.jobs.glob("sweep-*") if (path / FILE).is_file()] if store.jobs.is_dir() else []
    folders.sort(key=lambda path: (path / FILE).stat().st_mtime, reverse=True)
    found = [_kept(store, path.name.removeprefix("sweep-")) for path in folders[:MOST_KEPT]]
    return [one for one in found if one.readable]


def check(tables: dict[str, Any], store: Store, settings: Settings) -> tuple[Sweep, int]:
    """The sweep of a stranger's tables, and its points; raises FleetcastError, also for a path or too many points."""
    limited = {"point_timeout_s": settings.time_limit_s, **tables}
    sweep = make_sweep(safe_sweep(limited, store), Path("sweep"))
    if sweep.point_timeout_s > settings.time_limit_s:
        raise FleetcastError(
            f"sweep: point_timeout_s = {sweep.point_timeout_s:g} is more than the app's limit of"
            f" {settings.time_limit_s:g} s; lower it"
        )
    return sweep, expanded(sweep, store).points


def expanded(sweep: Sweep, store: Store) -> Expanded:
    """A sweep's points, counted once as long as the app's own files stay as they are: a page asks at every touch.

    Raises FleetcastError as `expand` does, and for more than MOST_POINTS.
    """
    files = [path for folder in (store.hardware, store.uploads) for path in sorted(folder.rglob("*"))]
    asked = repr((sweep.toml(), [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]))
    if asked not in _EXPANDED:
        points = expand(sweep, MOST_POINTS)
        digest = hashlib.sha256(repr([sweep.toml(), *(point.point_id for point in points.points)]).encode())
        while len(_EXPANDED) >= EXPANDED_KEPT:
            _EXPANDED.pop(next(iter(_EXPANDED)), None)
        _EXPANDED[asked] = Expanded(len(points), digest.hexdigest()[:HEX_DIGITS])
    return _EXPANDED[asked]


def keep(sweep: Sweep, store: Store) -> KeptSweep:
    """Write it down, ready to be started; the same points of the same files and simulator are found again."""
    found = _kept(store, expanded(sweep, store).identity)
    found.job_folder.mkdir(parents=True, exist_ok=True)
    (found.job_folder / FILE).write_text(sweep.toml(), encoding="utf-8")
    write_json(found.job_folder / SIMULATOR, {"simulator": simulator_fingerprint()})
    return found


def command(sweep: KeptSweep) -> list[str]:
    """What runs it, and goes on where it was stopped."""
    return ["sweep", str(sweep.job_folder / FILE), "--out", str(sweep.folder)]


def safe_sweep(tables: dict[str, Any], store: Store) -> dict[str, Any]:
    """The same tables, files of the app's own by their places; raises FleetcastError for any other path."""
    check_depth(tables, "sweep", -1)  # its scenario may lie as deep as one alone
    checked = copy.deepcopy(tables)
    scenario = checked.get("scenario")
    if not isinstance(scenario, dict):
        raise FleetcastError("sweep: scenario: the app reads no files but its own; give the scenario's tables inline")
    checked["scenario"] = safe_tables(scenario, "scenario", store)
    axes = checked.get("axes")
    if isinstance(axes, dict):
        checked["axes"] = {key: _safe_axis(key, value, store) for key, value in axes.items()}
    return checked


def _safe_axis(key: str, value: Any, store: Store) -> Any:
    """Each value as if a scenario had it."""
    if isinstance(value, dict):
        return {inner: _safe_axis(f"{key}.{inner}", one, store) for inner, one in value.items()}
    if not isinstance(value, list):
        return value
    checked = []
    for one in value:
        tables: dict[str, Any] = {}
        put(tables, key, one)
        node: Any = safe_tables(tables, "axes", store)
        for part in key.split("."):
            node = node[part]
        checked.append(node)
    return checked


def _kept(store: Store, sweep_id: str) -> KeptSweep:
    return KeptSweep(sweep_id, store.sweeps / sweep_id, store.jobs / f"sweep-{sweep_id}")


def title_of(sweep: KeptSweep) -> str:
    """For a list to choose from: one of a kind, and the same while a sweep goes on, as the list knows its entries by
    their texts.
    """
    try:
        name = sweep.definition().name
    except FleetcastError as mistake:
        return f"{sweep.sweep_id}: {mistake}"
    return f"{name} ({sweep.sweep_id[:6]})"


def progress_text(progress: Mapping[str, Any]) -> str:
    """Where a running sweep is."""
    if not progress:
        return "starting"
    failed = f", {progress['failed']:,} failed" if progress["failed"] else ""
    left = progress.get("eta_s")
    eta = f", about {left:,.0f} s left" if left is not None and progress["done"] < progress["total"] else ""
    return f"{progress['done']:,} of {progress['total']:,} points{failed}, {progress['elapsed_s']:,.0f} s{eta}"


def example_sweep(store: Store) -> SweepDraft:
    """The shipped example that the page opens on."""
    tables = read_toml(EXAMPLES / f"{EXAMPLE}.toml")
    base = tables["scenario"]
    if isinstance(base, str):
        base = full_example(Path(base).stem, store)
    return SweepDraft.of_tables(tables, base)
