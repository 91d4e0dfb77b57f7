"""Runs a sweep: finds what is known, runs the rest, keeps every row, and goes on where an earlier one stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa

from hardware_models.errors import FleetcastError
from sim.cores import usable_cores
from sim.sweep.best import write_best
from sim.sweep.definition import Sweep, load_sweep
from sim.sweep.folder import RESULTS, check_sweep_folder, locked, points_table, results_table, start_folder
from sim.sweep.local import Done, LocalRunner
from sim.sweep.parts import PART_SCHEMA, read_parts, write_parquet
from sim.sweep.point import FAILED, INFEASIBLE, Job, Outcome, Work, run_point
from sim.sweep.points import Point, Points, expand
from sim.sweep.progress import Progress, ProgressFile
from sim.sweep.rows import Rows, check_reuse, known_rows
from sim.sweep.schedule import Schedule

Report = Callable[[Path, pd.DataFrame], None]


class SweepStoppedError(Exception):
    """The sweep was told to stop; what was done is kept in its folder, where it has one."""


class Runner(Protocol):
    """Runs points somewhere; a context that ends what it started."""

    def __enter__(self) -> Runner: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def size(self) -> int:
        """Points that run at once."""
        ...

    def run(self, schedule: Schedule, job: Callable[[int], Job]) -> Iterator[Done | None]:
        """Every point's outcome as it comes, and None now and then."""
        ...


def run_sweep(
    sweep: Points | Sweep | str | Path,
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    reuse: Sequence[str | Path] = (),
    watch: Callable[[Progress], None] | None = None,
    stop: Event | None = None,
    report: Report | None = None,
    work: Work = run_point,
) -> pd.DataFrame:
    """Run every point of a sweep, or of its file, and return a row a point; columns as in docs/sweeps.md.

    out: folder for the rows, from which the same or another sweep goes on; nothing is written without it. workers:
    processes of this machine (one a core by default). cluster: address of a Dask scheduler to run on instead. reuse:
    folders of sweeps whose points need not run again. watch: called a few times a second. stop: set it to end early.
    report: called with folder and rows before the sweep is said to be finished. work: what a worker does with a
    point; a module's function. Raises FleetcastError, and SweepStoppedError after `stop`.
    """
    if not isinstance(sweep, Points):
        sweep = expand(sweep if isinstance(sweep, Sweep) else load_sweep(sweep))
    points = sweep
    folder = None if out is None else Path(out)
    runner = make_runner(points.sweep, workers, cluster, work)
    if folder is not None:
        check_sweep_folder(folder)
    with ExitStack() as stack:
        stack.enter_context(runner)  # what may be refused is, before anything is written
        check_reuse(folder, reuse)
        if folder is not None:
            stack.enter_context(locked(folder))  # before it is read: who holds it may be adding rows
        known = known_rows(points, folder, reuse)
        if folder is not None:
            start_folder(folder, points)
        return _Session(points, folder, known, watch, stop, report).run(runner)


def make_runner(sweep: Sweep, workers: int | None, cluster: str | None, work: Work = run_point) -> Runner:
    """Workers of this machine, or of a cluster; raises FleetcastError where that is not there."""
    if cluster is not None:
        if workers is not None:
            raise FleetcastError("--workers: goes without --cluster, whose workers are its own; drop one of them")
        from sim.sweep.cluster import ClusterRunner

        return ClusterRunner(cluster, sweep.point_timeout_s, work)
    if workers is not None and not 1 <= workers <= 1024:
        raise FleetcastError(f"--workers {workers}: give a number from 1 to 1024")
    return LocalRunner(workers or usable_cores(), sweep.point_timeout_s, work)


class _Session:
    """One sweep from its first point to its report."""

    def __init__(
        self,
        points: Points,
        folder: Path | None,
        known: pd.DataFrame,
        watch: Callable[[Progress], None] | None,
        stop: Event | None,
        report: Report | None,
    ) -> None:
        self._points, self._folder, self._known = points, folder, known
        self._watch, self._stop, self._report = watch, stop, report
        self._rows = Rows(folder)
        self._progress = Progress(total=len(points))
        self._file = None if folder is None else ProgressFile(folder)

    def run(self, runner: Runner) -> pd.DataFrame:
        try:
            pending = self._begin()
            self._run(runner, pending)
            frame = self._finish()
        except BaseException as error:
            stopped = isinstance(error, SweepStoppedError | KeyboardInterrupt)
            self._say("stopped" if stopped else "failed", str(error) or type(error).__name__)
            raise
        self._say("finished", "")
        return frame

    def _begin(self) -> list[Point]:
        """Keep what is known already; the points that are not."""
        self._say("running", "")
        foreign = self._known[~self._known["own"].astype(bool)].drop(columns="own").reset_index()
        if len(foreign):
            self._rows.keep(pa.Table.from_pandas(foreign, PART_SCHEMA, preserve_index=False))
        statuses = self._known["status"].to_dict()
        pending = []
        for point in self._points.points:
            if point.point_id in statuses:
                self._progress.cached += 1
                self._count(statuses[point.point_id])
            elif point.reason:
                job = Job(point.index, point.point_id, {})
                self._take((job, Outcome(INFEASIBLE, point.reason)))
            else:
                pending.append(point)
        return pending

    def _run(self, runner: Runner, pending: list[Point]) -> None:
        by_seed = sorted(pending, key=lambda point: point.seed)  # settings of a seed share its requests
        schedule = Schedule((point.group, point.index) for point in by_seed)
        try:
            for done in runner.run(schedule, self._points.job):
                if done is not None:
                    self._take(done)
                self._tick()
                if self._stop is not None and self._stop.is_set():
                    raise SweepStoppedError("stopped before its end")
        finally:
            self._rows.flush()

    def _finish(self) -> pd.DataFrame:
        self._say("running", "writing the report")
        points = points_table(self._points)
        wanted: dict[str, Any] = dict.fromkeys(points["point_id"].to_pylist())
        rows = self._rows.in_memory() if self._folder is None else read_parts(self._folder, wanted)
        table = results_table(points, rows, self._points.sweep.columns)
        frame: pd.DataFrame = table.to_pandas()
        if self._folder is not None:
            write_parquet(table, self._folder / RESULTS)
            write_best(self._points, frame, self._folder)
            if self._report is not None:
                self._report(self._folder, frame)
        return frame

    def _take(self, done: Done) -> None:
        self._rows.add(done)
        self._count(done[1].status)

    def _count(self, status: str) -> None:
        self._progress.done += 1
        self._progress.failed += status == FAILED
        self._progress.infeasible += status == INFEASIBLE

    def _tick(self) -> None:
        self._rows.tick()
        if self._file is not None:
            self._file.write(self._progress)
        if self._watch is not None:
            self._watch(self._progress)

    def _say(self, state: str, message: str) -> None:
        self._progress.state, self._progress.message = state, message
        if self._file is not None:
            self._file.write(self._progress, now=True)
        if self._watch is not None:
            self._watch(self._progress)
