"""`python -m app.web.supervisor FOLDER TIME_LIMIT_S ARGUMENT...`: runs one Fleetcast command to its end or its limit.

No process of it takes more memory than the app's settings allow. Told to end (a file `stop` in the folder, or SIGTERM),
it passes that on as SIGTERM, so that a sweep keeps its parts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 10.0  # between asking and killing
LIBRARIES_BYTES = 2 * 1024**3  # addresses that code and libraries take themselves
COMMAND = "from app.cli import main; main()"


def supervise(folder: Path, time_limit_s: float, arguments: list[str]) -> str:
    """Run the command; returns how it ended, which done.json says as well."""
    from app.web.jobs import DONE, STOP, write_json
    from app.web.settings import Settings

    asked: list[int] = []

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    limit_memory(Settings.of_environment().memory_limit_bytes)
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments])
    ended = ""
    while process.poll() is None:
        if not ended and (asked or (folder / STOP).exists()):
            ended = "stopped"
            kill_at = _ask(process)
        elif not ended and time.monotonic() - started > time_limit_s:
            ended = "timed out"
            kill_at = _ask(process)
        elif ended and time.monotonic() > kill_at:
            process.kill()
        time.sleep(0.05)
    state = ended or ("finished" if process.returncode == 0 else "failed")
    elapsed_s = time.monotonic() - started
    write_json(folder / DONE, {"state": state, "exit_code": process.returncode, "elapsed_s": elapsed_s})
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)  # helpers of the command that it left behind
    return state


def limit_memory(limit_bytes: int) -> None:
    """Of each process that the command starts; without effect where the system has no such limit."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (LIBRARIES_BYTES + limit_bytes, resource.RLIM_INFINITY))
    except (ImportError, ValueError):
        return


def _ask(process: subprocess.Popen[bytes]) -> float:
    """Ask for an end; returns when to lose patience."""
    process.send_signal(signal.SIGTERM)
    return time.monotonic() + GRACE_S


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
