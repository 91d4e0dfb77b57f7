"""What a start of the app was told: where its files go and how much a question may cost."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
PREFIX = "FLEETCAST_APP_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Handed from the command to the pages through the environment, as pages run apart from it."""

    runs: Path = Path("runs/app")
    time_limit_s: float = 120.0  # of one simulation
    job_limit_s: float = 3600.0  # of one command started by a page, such as a sweep
    memory_limit_bytes: int = 4 * GIB  # of one simulation
    workers: int = 2  # simulations at once
    upload_limit_bytes: int = 50_000_000  # of one file
    toml_limit_bytes: int = 200_000  # of one scenario

    def environment(self) -> dict[str, str]:
        """Variables that `of_environment` reads back."""
        return {
            f"{PREFIX}RUNS": str(self.runs.resolve()),
            f"{PREFIX}TIME_LIMIT_S": repr(self.time_limit_s),
            f"{PREFIX}JOB_LIMIT_S": repr(self.job_limit_s),
            f"{PREFIX}MEMORY_LIMIT_BYTES": str(self.memory_limit_bytes),
            f"{PREFIX}WORKERS": str(self.workers),
        }

    @classmethod
    def of_environment(cls) -> Settings:
        """As the command left them; defaults where a page runs without it."""
        own, told = cls(), os.environ
        return cls(
            runs=Path(told.get(f"{PREFIX}RUNS", own.runs)),
            time_limit_s=float(told.get(f"{PREFIX}TIME_LIMIT_S", own.time_limit_s)),
            job_limit_s=float(told.get(f"{PREFIX}JOB_LIMIT_S", own.job_limit_s)),
            memory_limit_bytes=int(told.get(f"{PREFIX}MEMORY_LIMIT_BYTES", own.memory_limit_bytes)),
            workers=int(told.get(f"{PREFIX}WORKERS", own.workers)),
        )
