"""What a sweep would take, from a few of its points, run and timed; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.sweep.definition import Sweep
from sim.sweep.local import LocalRunner
from sim.sweep.point import OK
from sim.sweep.points import Point, Points, expand
from sim.sweep.rows import known_rows
from sim.sweep.runner import make_runner
from sim.sweep.schedule import Schedule

SAMPLE = 6  # points
LIMIT_S = 10.0  # of one of them
AGAIN_S = 1.0  # a point shorter than this is run again, to tell what the first one of a deployment takes on top


@dataclass(frozen=True, slots=True)
class Estimate:
    """Points by what becomes of them, and the time of those to run."""

    points: Points
    cached: int  # found in folders
    impossible: int  # infeasible, as validation knows without a run
    pending: int  # to run
    at_once: int  # workers
    point_s: tuple[float, ...]  # of the sampled points, in a warm worker
    total_s: float  # of the sweep; 0 where nothing is left to run
    at_least: bool  # a sampled point took longer than LIMIT_S


def estimate(
    sweep: Sweep, out: Path | None, *, workers: int | None, cluster: str | None, reuse: Sequence[Path]
) -> Estimate:
    """Raises FleetcastError for anything that a sweep would refuse."""
    points = expand(sweep)
    known = known_rows(points, out if out is not None and out.exists() else None, reuse)
    unknown = [point for point in points.points if point.point_id not in known.index]
    pending = [point for point in unknown if not point.reason]
    runner = make_runner(sweep, workers, cluster)
    if cluster is not None:
        with runner:
            at_once = runner.size
    else:
        at_once = runner.size
    warm, extra, at_least = _timed(points, pending)
    groups = len({point.group for point in pending})
    at_once = max(1, min(at_once, len(pending)))
    total_s = (len(pending) * float(np.mean(warm)) + groups * extra) / at_once if warm else 0.0
    return Estimate(
        points, len(points) - len(unknown), len(unknown) - len(pending), len(pending), at_once, warm, total_s, at_least
    )


def _timed(points: Points, pending: list[Point]) -> tuple[tuple[float, ...], float, bool]:
    """Seconds of sampled points, what the first of a deployment takes on top, and whether one took too long."""
    if not pending:
        return (), 0.0, False
    places = np.unique(np.linspace(0, len(pending) - 1, min(SAMPLE, len(pending))).round().astype(int))
    warm: list[float] = []
    extra: list[float] = []
    with LocalRunner(1, LIMIT_S) as runner:
        for place in places:
            index = pending[int(place)].index
            cold_s, ok = _run(runner, points, index)
            again_s = _run(runner, points, index)[0] if ok and cold_s < AGAIN_S else cold_s
            warm.append(again_s)
            extra.append(max(0.0, cold_s - again_s))
            if cold_s >= LIMIT_S:
                return tuple(warm), 0.0, True
    return tuple(warm), float(np.mean(extra)), False


def _run(runner: LocalRunner, points: Points, index: int) -> tuple[float, bool]:
    done = next(one for one in runner.run(Schedule([(0, index)]), points.job) if one is not None)
    return done[1].wall_s, done[1].status == OK
