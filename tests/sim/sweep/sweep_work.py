"""Stand-ins for the simulation of a point, for a worker to import, and a look at processes."""

import os
import signal
import time
from pathlib import Path

from sim.sweep.columns import VALUE_COLUMNS
from sim.sweep.point import OK, Job, Outcome, run_point

KILLS, RAISES, HANGS = 13, 14, 15  # seeds


def quick(job: Job) -> Outcome:
    """No simulation: figures that tell the points apart."""
    values = [float(job.index)] * len(VALUE_COLUMNS)
    return Outcome(OK, "", "measured", "nothing", tuple(values), 0.0)


def slow(job: Job) -> Outcome:
    """Twenty milliseconds of nothing."""
    time.sleep(0.02)
    return quick(job)


def sleeping(job: Job) -> Outcome:
    """As good as for ever."""
    time.sleep(1000)
    return quick(job)


def poisoned(job: Job) -> Outcome:
    """One point kills its worker, one raises, one never ends."""
    seed = job.tables["seed"]
    if seed == KILLS:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == RAISES:
        raise ZeroDivisionError("by design\nof this test")
    if seed == HANGS:
        time.sleep(1000)
    return run_point(job)


def dies_twice(job: Job) -> Outcome:
    """Two workers die of a point, each leaving a file in the folder of the point's tables; the third answers."""
    left = Path(job.tables["folder"], str(os.getpid()))
    if len(list(left.parent.iterdir())) < 2:
        left.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return quick(job)


def ends_at_import(job: Job) -> Outcome:
    """Sent to workers that do not get that far."""
    return quick(job)


def descendants(pid: int) -> set[int]:
    """Processes below a process, all the way down."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        state, parent = text.rpartition(")")[2].split()[:2]
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {pid}


def alive(pid: int) -> bool:
    """Is there such a process, at work or asleep?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
