"""The app's files: runs by their identity, sweeps, jobs, and what a user put there. No other path is ever read."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.web.jobs import STARTING, Job
from hardware_models.errors import FleetcastError, UnknownNameError
from sim.stored_run import AnyRun, read_any_run

RUN_ID = re.compile(r"[0-9a-f]{16}")
BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # no separators, nothing hidden, no '..' in front
UPLOAD_SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")  # traces, and config.json of models
RESULTS_LIMIT_BYTES = 4_000_000_000  # of all kept runs together; beyond, the one looked at longest ago goes
UPLOADS_LIMIT_BYTES = 1_000_000_000  # of all uploads together
JOBS_LIMIT_BYTES = 4_000_000_000  # of all jobs and their sweeps together; beyond, the ended one begun longest ago goes
JOBS_LIMIT = 500  # in number
SWEEP_JOB = "sweep-"  # how the job of a sweep is called, its identity behind it
STALE_S = 3600.0  # what is being built for so long is left by a process that was killed


@dataclass(frozen=True, slots=True)
class Store:
    """Folders under one root, made when first written to."""

    root: Path

    @property
    def results(self) -> Path:
        """One run folder a scenario, named by its identity."""
        return self.root / "results"

    @property
    def sweeps(self) -> Path:
        """One folder a sweep."""
        return self.root / "sweeps"

    @property
    def jobs(self) -> Path:
        """One folder a command that a page started."""
        return self.root / "jobs"

    @property
    def hardware(self) -> Path:
        """The user's own nodes and GPUs, as TOML files."""
        return self.root / "hardware"

    @property
    def uploads(self) -> Path:
        """The user's own traces and model configs."""
        return self.root / "uploads"

    def result_folder(self, run_id: str) -> Path:
        """Where the run of an identity lies or will lie; raises FleetcastError for what is no identity."""
        if not RUN_ID.fullmatch(run_id):
            raise FleetcastError(f"'{run_id[:60]}': is no identity of a run; give sixteen hexadecimal digits")
        return self.results / run_id

    def has(self, run_id: str) -> bool:
        """Is that run finished and kept?"""
        return (self.result_folder(run_id) / "summary.json").is_file()

    def run(self, name: str) -> AnyRun:
        """A kept run by its identity, or a run folder below the root by its path from there; raises FleetcastError."""
        if RUN_ID.fullmatch(name):
            if not self.has(name):
                raise FleetcastError(f"run {name}: is not kept here (any more); run its scenario again")
            folder = self.result_folder(name)
            os.utime(folder)  # looked at now, so not the next to be dropped
            return read_any_run(folder)
        return read_any_run(self.folder_inside(name))

    def folder_inside(self, name: str) -> Path:
        """A folder below the root by its path from there; raises FleetcastError for any other place."""
        root = self.root.resolve()
        try:
            place = (root / name).resolve()
            inside = place != root and place.is_relative_to(root) and place.is_dir()
        except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a null character
            inside = False
        if not inside:
            raise FleetcastError(f"'{name[:60]}': is no folder inside {self.root}; give one by its path from there")
        return root / name

    def prune(self) -> None:
        """Drop the runs that were looked at longest ago, where all together take more than the limit, and what killed
        processes were building.
        """
        kept = [_Kept.of(folder) for folder in _entries(self.results) if RUN_ID.fullmatch(folder.name)]
        excess = sum(one.size_bytes for one in kept) - RESULTS_LIMIT_BYTES
        for one in sorted(kept, key=lambda one: one.changed_unix_s):
            if excess <= 0:
                break
            one.drop()
            excess -= one.size_bytes
        for place in (self.results, self.sweeps, self.jobs, self.hardware, self.uploads):
            for entry in _entries(place):
                if entry.name.startswith(".") and (left := _Kept.of(entry)).changed_unix_s < time.time() - STALE_S:
                    left.drop()

    def prune_jobs(self) -> None:
        """Drop the ended jobs begun longest ago, with their sweeps, where all are more than the limits."""
        names = {folder.name for folder in _entries(self.jobs)}
        names |= {f"{SWEEP_JOB}{folder.name}" for folder in _entries(self.sweeps)}
        kept = [_Kept.of(*self._folders(name)) for name in names if not name.startswith((".", f"{SWEEP_JOB}."))]
        excess, number = sum(one.size_bytes for one in kept) - JOBS_LIMIT_BYTES, len(kept)
        for one in sorted(kept, key=lambda one: one.changed_unix_s):
            if excess <= 0 and number <= JOBS_LIMIT:
                return
            with STARTING:
                job = Job.read(one.places[0])
                if job is None or not job.poll().running:
                    one.drop()
                    excess, number = excess - one.size_bytes, number - 1

    def _folders(self, job_name: str) -> tuple[Path, Path]:
        """Of a job, and of the sweep that it may be for."""
        return self.jobs / job_name, self.sweeps / job_name.removeprefix(SWEEP_JOB)

    def files(self, folder: Path, suffixes: tuple[str, ...]) -> list[str]:
        """Names of the plain files of one of the folders, sorted."""
        if not folder.is_dir():
            return []
        return sorted(
            path.name
            for path in folder.iterdir()
            if path.suffix in suffixes and BARE_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        )

    def file(self, folder: Path, name: str, suffixes: tuple[str, ...], where: str) -> Path:
        """A file of one of the folders by its bare name; raises UnknownNameError, in which `where` says who asked."""
        known = self.files(folder, suffixes)
        if name not in known:
            raise UnknownNameError(where, name, known)
        return folder.resolve() / name

    def keep_upload(self, name: str, content: bytes, limit_bytes: int) -> str:
        """Keep a user's file; returns its name. Raises FleetcastError for a bad name, or a file too large."""
        check_upload_name(name)
        if len(content) > limit_bytes:
            raise FleetcastError(
                f"{name}: has {len(content):,} bytes; the app takes files of at most {limit_bytes:,}: cut it, or use"
                " the command line"
            )
        self.uploads.mkdir(parents=True, exist_ok=True)
        kept = sum(path.stat().st_size for path in self.uploads.iterdir())
        if kept + len(content) > UPLOADS_LIMIT_BYTES:
            raise FleetcastError(
                f"{name}: the uploads would exceed {UPLOADS_LIMIT_BYTES:,} bytes; remove files from {self.uploads}"
            )
        place = self.uploads / name
        building = self.uploads / f".{name}"
        building.write_bytes(content)
        building.replace(place)
        return name


@dataclass(frozen=True, slots=True)
class _Kept:
    """Files or folders that go together."""

    places: tuple[Path, ...]
    size_bytes: int
    changed_unix_s: float

    @classmethod
    def of(cls, *places: Path) -> _Kept:
        """As they are now; what another process takes away meanwhile counts nothing."""
        size, changed = 0, 0.0
        for place in places:
            with suppress(OSError):
                changed = max(changed, place.lstat().st_mtime)
            for folder, _, files in os.walk(place):
                for file in files:
                    with suppress(OSError):
                        size += os.lstat(os.path.join(folder, file)).st_size
        return cls(places, size, changed)

    def drop(self) -> None:
        """Take them away, as far as they are there."""
        for place in self.places:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def check_upload_name(name: str) -> None:
    """Raises FleetcastError for a name that is not a bare one with a known ending."""
    if not BARE_NAME.fullmatch(name):
        raise FleetcastError(
            f"'{name[:60]}': is no name for a file here; give at most 100 letters, digits, '.', '_' and '-'"
        )
    if Path(name).suffix not in UPLOAD_SUFFIXES:
        raise FleetcastError(f"{name}: is of no known kind; give a file ending in {', '.join(UPLOAD_SUFFIXES)}")
