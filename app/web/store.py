"""The app's files: runs by their identity, sweeps, jobs, and what a user put there. No other path is ever read."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.stored_run import StoredRun, read_run

RUN_ID = re.compile(r"[0-9a-f]{16}")
BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # no separators, nothing hidden, no '..' in front
UPLOAD_SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")  # traces, and config.json of models
RESULTS_LIMIT_BYTES = 4_000_000_000  # of all kept runs together; beyond, the one looked at longest ago goes
UPLOADS_LIMIT_BYTES = 1_000_000_000  # of all uploads together


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

    def run(self, name: str) -> StoredRun:
        """A kept run by its identity, or a run folder below the root by its path from there; raises FleetcastError."""
        if RUN_ID.fullmatch(name):
            if not self.has(name):
                raise FleetcastError(f"run {name}: is not kept here (any more); run its scenario again")
            folder = self.result_folder(name)
            os.utime(folder)  # looked at now, so not the next to be dropped
            return read_run(folder)
        return read_run(self.folder_inside(name))

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
        """Drop the runs that were looked at longest ago, where all together take more than the limit."""
        kept = []
        for folder in self.results.iterdir() if self.results.is_dir() else ():
            with suppress(OSError):  # another session's, just dropped
                if RUN_ID.fullmatch(folder.name):
                    kept.append((folder.stat().st_mtime, sum(file.stat().st_size for file in folder.iterdir()), folder))
        excess = sum(size for _, size, _ in kept) - RESULTS_LIMIT_BYTES
        for _, size, folder in sorted(kept):
            if excess <= 0:
                return
            shutil.rmtree(folder, ignore_errors=True)
            excess -= size

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


def check_upload_name(name: str) -> None:
    """Raises FleetcastError for a name that is not a bare one with a known ending."""
    if not BARE_NAME.fullmatch(name):
        raise FleetcastError(
            f"'{name[:60]}': is no name for a file here; give at most 100 letters, digits, '.', '_' and '-'"
        )
    if Path(name).suffix not in UPLOAD_SUFFIXES:
        raise FleetcastError(f"{name}: is of no known kind; give a file ending in {', '.join(UPLOAD_SUFFIXES)}")
