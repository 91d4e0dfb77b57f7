"""Runs points on a Dask cluster, found by its scheduler's address.

Each thread of a Dask worker keeps a worker process of its own, as a sweep on one machine does: a point that crashes or
takes too long costs that process and not the Dask worker, and a Dask worker that is lost costs a second try elsewhere.
"""

from __future__ import annotations

import importlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from hardware_models.errors import FleetcastError
from sim.identity import simulator_fingerprint
from sim.sweep.local import TICK_S, Done, LocalRunner
from sim.sweep.point import FAILED, Job, Outcome, Work, run_point
from sim.sweep.schedule import Schedule

INSTALL = "pip install 'fleetcast[cluster]'"
CONNECT_S = 10
AHEAD = 3  # points a thread at the scheduler, so that no worker waits for us
RESULT_S = 5.0  # for an answer to come from the worker that has it
MOST_LOSSES = 3  # times that Dask gives a point up (each after some lost workers) before it counts as the point's doing
LOOK_S = 5.0  # between looks at who is there
DESERTED_S = 60.0  # without any worker

_runners: dict[tuple[str, int], LocalRunner] = {}  # on a Dask worker: sweep, thread -> its runner
_registering = threading.Lock()


class SweepEndedError(Exception):
    """Of a point that nobody waits for any more."""


class ClusterRunner:
    """A connection to a cluster; a context that ends it."""

    def __init__(self, address: str, timeout_s: float, work: Work = run_point) -> None:
        self._address, self._timeout_s, self._work = address, timeout_s, work
        self._client: Any = None
        self._flying: dict[Any, Job] = {}  # future -> job
        self._losses: dict[int, int] = {}
        self._label, self._sent = secrets.token_hex(4), 0  # of this sweep; tasks sent
        self._threads = 0
        self._looked_s = self._peopled_s = 0.0

    def __enter__(self) -> ClusterRunner:
        try:
            connect: Any = importlib.import_module("distributed").Client
        except ImportError:
            raise FleetcastError(f"--cluster {self._address}: needs Dask's distributed; {INSTALL}") from None
        try:
            self._client = connect(self._address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:  # TimeoutError is an OSError
            reason = "" if isinstance(error, OSError) else f" ({str(error)[:80]})"
            raise FleetcastError(
                f"--cluster {self._address}: no Dask scheduler answers{reason}; give its address, as in"
                " tcp://10.0.0.1:8786, and see that it runs (dask scheduler)"
            ) from None
        self._peopled_s = time.monotonic()
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # a cluster that is gone has nothing to clean up
            self._client.cancel(list(self._flying), force=True)
            self._client.run(end_runners, self._label)
        self._client.close(timeout=2)

    @property
    def size(self) -> int:
        """Points that run at once."""
        return max(1, self._threads)

    def run(self, schedule: Schedule, job: Callable[[int], Job]) -> Iterator[Done | None]:
        """Every point's outcome as it comes, and None every TICK_S at least.

        Raises FleetcastError where the cluster is lost, or is none of ours.
        """
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        fingerprint = simulator_fingerprint()
        while schedule or self._flying:
            while len(self._flying) < AHEAD * self.size and (index := schedule.next("cluster")) is not None:
                one = job(index)
                self._sent += 1
                future = self._client.submit(
                    run_remote, one, self._timeout_s, self._work, fingerprint, self._label,
                    key=f"fleetcast-{self._label}-{self._sent}",
                )  # fmt: skip
                self._flying[future] = one
                future.add_done_callback(arrived.put)
            try:
                future = arrived.get(timeout=TICK_S)
                done = self._landed(future, schedule)
                if future in self._flying:  # its answer was lost with its worker, and is on its way again
                    future.add_done_callback(arrived.put)
            except queue.Empty:
                self._look()
                done = None
            yield done

    def _landed(self, future: Any, schedule: Schedule) -> Done | None:
        """Its outcome; None where there is none yet: it flies on, or the point waits for another try."""
        job, status = self._flying[future], future.status
        if status == "pending":
            return None
        if status == "finished":
            try:
                outcome: Outcome = future.result(timeout=RESULT_S)
            except (TimeoutError, CancelledError):
                self._look()
                return None
            del self._flying[future]
            return job, outcome
        del self._flying[future]
        if status != "error":  # cancelled or lost
            self._look(now=True)
            return self._lost(job, schedule)
        error = future.exception()
        if type(error).__name__ != "KilledWorker":
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise FleetcastError(
                f"--cluster {self._address}: a worker cannot run points ({reason[:200]}); give its workers this version"
                " of fleetcast"
            )
        return self._lost(job, schedule)

    def _lost(self, job: Job, schedule: Schedule) -> Done | None:
        losses = self._losses[job.index] = self._losses.get(job.index, 0) + 1
        if losses >= MOST_LOSSES:
            return job, Outcome(FAILED, "the Dask workers that ran it were lost, time and again")
        schedule.put_back(job.index)
        return None

    def _look(self, *, now: bool = False) -> None:
        """Who is there? Now, or where the last look is LOOK_S ago.

        Raises FleetcastError where the scheduler is gone, or nobody has been there for long.
        """
        moment = time.monotonic()
        if not now and moment - self._looked_s < LOOK_S:
            return
        self._looked_s = moment
        try:
            self._threads = sum(self._client.nthreads().values())
        except OSError:
            raise FleetcastError(
                f"--cluster {self._address}: its scheduler is gone; start it and run the sweep again"
            ) from None
        if self._threads:
            self._peopled_s = moment
        elif moment - self._peopled_s > DESERTED_S:
            raise FleetcastError(
                f"--cluster {self._address}: has no workers; start some with dask worker {self._address}"
            )


def run_remote(job: Job, timeout_s: float, work: Work, fingerprint: str, label: str) -> Outcome:
    """On a Dask worker: run a point in the worker process that this thread keeps for the sweep of that label."""
    if simulator_fingerprint() != fingerprint:
        raise FleetcastError("its simulator is of another version")
    with _registering:
        runner = _runners.setdefault((label, threading.get_ident()), LocalRunner(1, timeout_s, work))
    for done in runner.run(Schedule([(0, job.index)]), lambda _: job):
        if done is not None:
            return done[1]
    raise SweepEndedError("the sweep has ended")


def end_runners(label: str) -> None:
    """On a Dask worker: end the worker processes of a sweep; those of others go on."""
    with _registering:
        ended = [_runners.pop(key) for key in list(_runners) if key[0] == label]
    for runner in ended:
        runner.__exit__()
