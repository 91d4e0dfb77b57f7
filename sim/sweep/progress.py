"""How far a sweep is: numbers for a person, and for progress.json."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sim.sweep.parts import write_text

FILE = "progress.json"
PERIOD_S = 0.5  # between writings


@dataclass
class Progress:
    """Of one sweep; `done` counts every point with a row, those found in folders (`cached`) among them."""

    total: int
    cached: int = 0
    done: int = 0
    failed: int = 0
    infeasible: int = 0
    state: str = "running"  # running, finished, stopped, failed
    message: str = ""
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started_s

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the pace so far; None before there is one."""
        run = self.done - self.cached
        if self.done >= self.total:
            return 0.0
        return self.elapsed_s * (self.total - self.done) / run if run > 0 else None

    def record(self) -> dict[str, str | int | float | None]:
        """What progress.json holds."""
        record = asdict(self) | {"elapsed_s": self.elapsed_s, "eta_s": self.eta_s, "pid": os.getpid()}
        del record["started_s"]
        return record


class ProgressFile:
    """Keeps progress.json of a folder up to date."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._written_s = -PERIOD_S

    def write(self, progress: Progress, *, now: bool = False) -> None:
        """Replace it, unless it was a moment ago; now: in any case."""
        moment = time.monotonic()
        if now or moment - self._written_s >= PERIOD_S:
            write_text(json.dumps(progress.record()) + "\n", self._path)
            self._written_s = moment
