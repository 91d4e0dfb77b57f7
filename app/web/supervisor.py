"""`python -m app.web.supervisor FOLDER TIME_LIMIT_S PARENT ARGUMENT...`: runs a Fleetcast command to its end or limit.

No process of it takes more memory, and no file of it more space, than an app's command may. Told to end (a file `stop`
in the folder, SIGTERM, or the death of PARENT, the app's process), it passes that on as SIGTERM, so that a sweep keeps
its parts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 10.0  # between asking and killing
FILE_LIMIT_BYTES = 10**9  # of what it prints, and of each file that it writes
LIBRARIES_BYTES = 2 * 1024**3  # addresses that code and libraries take themselves
COMMAND = "from app.cli import main; main()"


def supervise(folder: Path, time_limit_s: float, parent: int, arguments: list[str]) -> str:
    """Run the command on behalf of a parent process; returns how it ended, which done.json says as well."""
    from app.web.jobs import DONE, STOP, write_json
    from app.web.settings import Settings

    asked: list[int] = []

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    limit_memory(Settings.of_environment().memory_limit_bytes)
    limit_files(FILE_LIMIT_BYTES)
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments])
    ended = ""
    while process.poll() is None:
        if not ended and (asked or (folder / STOP).exists() or os.getppid() != parent):
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


def limit_files(limit_bytes: int) -> None:
    """The size of each file that the command writes, a full one being an error of the system's; as `limit_memory`."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    except (ImportError, ValueError):
        return


def _ask(process: subprocess.Popen[bytes]) -> float:
    """Ask for an end; returns when to lose patience."""
    process.send_signal(signal.SIGTERM)
    return time.monotonic() + GRACE_S


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
