"""Runs points in worker processes of this machine; a worker that dies or takes too long costs its own point at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait

from hardware_models.errors import FleetcastError
from sim.sweep.point import FAILED, Job, Outcome, Work, run_point
from sim.sweep.schedule import Schedule
from sim.sweep.worker_process import WorkerLostError, WorkerProcess

TICK_S = 0.2  # at which the caller hears that nothing happened
MOST_DEATHS = 3  # of workers, at one point; a worker may be killed by chance, three at one point are the point's doing
MOST_FALSE_STARTS = 3
START_S = 60.0  # that a worker may take to begin, which is imports
SHORT_S = 0.1  # a worker of points shorter than this has the next one at hand already

Done = tuple[Job, Outcome]


class LocalRunner:
    """A pool of worker processes; a context that ends them."""

    def __init__(self, workers: int, timeout_s: float, work: Work = run_point) -> None:
        self._most, self._timeout_s, self._work = workers, timeout_s, work
        self._workers: list[WorkerProcess] = []
        self._deaths: dict[int, int] = {}  # point -> workers that died of it
        self._false_starts = 0
        self._last_wall_s: dict[int, float] = {}  # process -> of its last point
        self._ended = False

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    @property
    def pids(self) -> list[int]:
        """Of the worker processes."""
        return [worker.pid for worker in self._workers]

    @property
    def size(self) -> int:
        """Points that run at once."""
        return self._most

    def run(self, schedule: Schedule, job: Callable[[int], Job]) -> Iterator[Done | None]:
        """Every point's outcome as it comes, and None every TICK_S at least.

        Ends early where another thread ends the runner. Raises FleetcastError where no worker can be started.
        """
        self._deaths.clear()  # of another sweep's points
        self._false_starts = 0
        while not self._ended and (schedule or any(worker.jobs for worker in self._workers)):
            self._feed(schedule, job)
            readable = set(wait([worker.connection for worker in self._workers], timeout=TICK_S))
            for worker in [one for one in self._workers if one.connection in readable]:
                done = self._heard(worker, schedule)
                if done is not None:
                    yield done
            for worker in [one for one in self._workers if self._is_late(one)]:
                if worker.ready:
                    yield self._stopped(worker, schedule)
                else:
                    self._lost(worker, schedule, f"was still starting after {START_S:g} s")
            yield None

    def _feed(self, schedule: Schedule, job: Callable[[int], Job]) -> None:
        while len(self._workers) < self._most and len(self._workers) < len(schedule) + self._busy():
            self._workers.append(WorkerProcess(self._work))
        for depth in (1, 2):
            for worker in self._workers:
                ahead = depth == 1 or self._last_wall_s.get(worker.pid, SHORT_S) < SHORT_S
                if worker.ready and ahead and len(worker.jobs) < depth and (index := schedule.next(worker)) is not None:
                    worker.send(job(index))

    def _busy(self) -> int:
        return sum(1 for worker in self._workers if worker.jobs)

    def _heard(self, worker: WorkerProcess, schedule: Schedule) -> Done | None:
        try:
            done = worker.receive()
        except WorkerLostError as error:
            return self._lost(worker, schedule, str(error))
        self._false_starts = 0
        if done is not None:
            self._last_wall_s[worker.pid] = done[1].wall_s
        return done

    def _lost(self, worker: WorkerProcess, schedule: Schedule, how: str) -> Done | None:
        """The point it was at is tried again, a few times; those behind it did nothing."""
        self._bury(worker, schedule)
        if not worker.ready:
            self._false_starts += 1
            if self._false_starts >= MOST_FALSE_STARTS:
                raise FleetcastError(
                    f"sweep: worker processes end before they begin (the last one {how}); see the messages above"
                )
        if not worker.jobs:
            return None
        job = worker.jobs[0]
        deaths = self._deaths[job.index] = self._deaths.get(job.index, 0) + 1
        if deaths < MOST_DEATHS:
            schedule.put_back(job.index)
            return None
        return job, Outcome(FAILED, f"{deaths} workers died at it; the last one {how}")

    def _stopped(self, worker: WorkerProcess, schedule: Schedule) -> Done:
        self._bury(worker, schedule)
        return worker.jobs[0], Outcome(
            FAILED, f"took longer than point_timeout_s = {self._timeout_s:g}", wall_s=time.monotonic() - worker.since
        )

    def _bury(self, worker: WorkerProcess, schedule: Schedule) -> None:
        self._workers.remove(worker)
        self._last_wall_s.pop(worker.pid, None)
        worker.close()
        schedule.forget(worker)
        for job in list(worker.jobs)[1:]:
            schedule.put_back(job.index)

    def _is_late(self, worker: WorkerProcess) -> bool:
        took_s = time.monotonic() - worker.since
        return bool(worker.jobs) and took_s > self._timeout_s if worker.ready else took_s > START_S
