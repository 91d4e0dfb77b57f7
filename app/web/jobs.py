"""A command of Fleetcast as a process of its own, known by its folder: it outlives the page and the browser that
started it.

A folder holds job.json (what was started), stdout, stderr and, at the end, done.json; a file `stop` asks for the end.
A supervisor process (`python -m app.web.supervisor`) runs the command, enforces the time limit and writes done.json.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware_models.errors import FleetcastError

STARTED, STOP, DONE = "job.json", "stop", "done.json"
STARTING_S = 5.0  # by then a process has its command line
TEXT_LIMIT_BYTES = 200_000  # of output that a page reads
STARTING = threading.Lock()  # one at a time looks what runs already, and starts


@dataclass(frozen=True, slots=True)
class JobState:
    """running, finished, failed, stopped, over its time limit ("timed out"), or gone without a word ("died")."""

    name: str
    exit_code: int | None = None
    elapsed_s: float = 0.0

    @property
    def running(self) -> bool:
        """Is it still at work?"""
        return self.name == "running"


@dataclass(frozen=True, slots=True)
class Job:
    """One command in one folder."""

    folder: Path
    arguments: tuple[str, ...]
    pid: int  # of the supervisor, which leads a process group of its own
    started_unix_s: float
    time_limit_s: float

    @classmethod
    def start(
        cls, arguments: Sequence[str], folder: Path, time_limit_s: float = 3600.0, at_once: int | None = None
    ) -> Job:
        """Start `fleetcast ARGUMENTS`; raises FleetcastError where a job runs in that folder already.

        The folder is made; an earlier, ended job of it is forgotten. at_once: how many may run in folders beside it.
        """
        with STARTING:
            running = [job.folder for job in jobs_in(folder.parent) if job.poll().running]
            if folder in running:
                raise FleetcastError(f"{folder.name}: is running already; stop it first")
            if at_once is not None and len(running) >= at_once:
                raise FleetcastError(f"{len(running)} commands are running already; wait for one, or stop it")
            return cls._started(arguments, folder, time_limit_s)

    @classmethod
    def _started(cls, arguments: Sequence[str], folder: Path, time_limit_s: float) -> Job:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (DONE, STOP):
            (folder / name).unlink(missing_ok=True)
        started = time.time()
        told = [str(folder), repr(time_limit_s), str(os.getpid()), *arguments]
        pid = _spawn(["-m", "app.web.supervisor", *told], folder)
        job = cls(folder, tuple(arguments), pid, started, time_limit_s)
        write_json(folder / STARTED, {"arguments": list(arguments), "pid": pid, "started_unix_s": started,
                                      "time_limit_s": time_limit_s})  # fmt: skip
        return job

    @classmethod
    def read(cls, folder: Path) -> Job | None:
        """The job of a folder, started by whomever; None where there is none. Raises FleetcastError for damage."""
        record = read_json(folder / STARTED, ("arguments", "pid", "started_unix_s", "time_limit_s"))
        if record is None:
            return None
        return cls(folder, tuple(record["arguments"]), record["pid"], record["started_unix_s"], record["time_limit_s"])

    def poll(self) -> JobState:
        """Where it stands now."""
        ended = self._ended()
        if ended is None and self._alive():
            return JobState("running", None, time.time() - self.started_unix_s)
        return ended or self._ended() or JobState("died")  # it may have ended between the two looks

    def stop(self) -> None:
        """Ask the command to end; it has some seconds to keep what it has, then it is killed."""
        if self.poll().running:
            (self.folder / STOP).touch()

    def stdout(self) -> str:
        """What it printed, at least the end of it."""
        return _tail(self.folder / "stdout")

    def stderr(self) -> str:
        """What it complained of, at least the end of it."""
        return _tail(self.folder / "stderr")

    def _ended(self) -> JobState | None:
        done = read_json(self.folder / DONE, ("state", "exit_code", "elapsed_s"))
        return JobState(done["state"], done["exit_code"], done["elapsed_s"]) if done is not None else None

    def _alive(self) -> bool:
        """Does the supervisor live, and is it this one and no later process with its number?"""
        with suppress(ChildProcessError):  # a child of ours that ended must be collected, else it looks alive
            os.waitpid(self.pid, os.WNOHANG)
        try:
            os.kill(self.pid, 0)
            command = Path(f"/proc/{self.pid}/cmdline").read_bytes() if Path("/proc/self").exists() else None
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            return False
        if command == b"":  # not yet named by the system, just after its start; or a corpse
            return time.time() - self.started_unix_s < STARTING_S
        return command is None or str(self.folder).encode() in command


def _spawn(arguments: list[str], folder: Path) -> int:
    """Start Python in a session of its own, its output in the folder's files; returns its process id."""
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        {**os.environ, "PYTHONUNBUFFERED": "1"},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / "stdout"), write, 0o644),
            (os.POSIX_SPAWN_OPEN, 2, str(folder / "stderr"), write, 0o644),
        ],
        setsid=True,
    )


def read_json(path: Path, keys: Sequence[str] = ()) -> dict[str, Any] | None:
    """A JSON object with some keys; None where the file is not there. Raises FleetcastError for anything else."""
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        record = None
    if not isinstance(record, dict) or not set(keys) <= set(record):
        raise FleetcastError(f"{path.parent.name}/{path.name}: is damaged; remove the folder {path.parent.name}")
    return record


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Put a JSON file in its place at once, so that no reader sees half of it."""
    building = path.with_name(f".{path.name}-{os.getpid()}")
    building.write_text(json.dumps(record), encoding="utf-8")
    building.replace(path)


def _tail(path: Path) -> str:
    with suppress(FileNotFoundError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TEXT_LIMIT_BYTES))
        return file.read().decode("utf-8", "replace")
    return ""


def stop_all(folder: Path) -> None:
    """Ask every job that runs in a folder of jobs to end."""
    for job in jobs_in(folder):
        job.stop()


def jobs_in(folder: Path) -> list[Job]:
    """The jobs of a folder of jobs, by name; damaged ones left out, which nobody can ask anything."""
    found = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(FleetcastError):
            job = Job.read(place)
            if job is not None:
                job.poll()
                found.append(job)
    return found
