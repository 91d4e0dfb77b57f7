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
MOST_LOSSES = 3  # times that Dask gives a point up (each after some lost workers) before it counts as the point's doing
LOOK_S = 5.0  # between looks at who is there
DESERTED_S = 60.0  # without any worker

_keeper = threading.local()  # of this thread of a Dask worker: its runner
_kept: set[LocalRunner] = set()  # of all threads of this Dask worker


class ClusterRunner:
    """A connection to a cluster; a context that ends it."""

    def __init__(self, address: str, timeout_s: float, work: Work = run_point) -> None:
        self._address, self._timeout_s, self._work = address, timeout_s, work
        self._client: Any = None
        self._flying: dict[Any, Job] = {}  # future -> job
        self._losses: dict[int, int] = {}
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
            self._client.run(_end_runners)
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
        fingerprint, label = simulator_fingerprint(), secrets.token_hex(4)
        sent = 0
        while schedule or self._flying:
            while len(self._flying) < AHEAD * self.size and (index := schedule.next("cluster")) is not None:
                one, sent = job(index), sent + 1
                future = self._client.submit(
                    run_remote, one, self._timeout_s, self._work, fingerprint, key=f"fleetcast-{label}-{sent}"
                )
                self._flying[future] = one
                future.add_done_callback(arrived.put)
            try:
                done = self._landed(arrived.get(timeout=TICK_S), schedule)
            except queue.Empty:
                self._look()
                done = None
            yield done

    def _landed(self, future: Any, schedule: Schedule) -> Done | None:
        job = self._flying.pop(future)
        if future.status == "finished":
            return job, future.result()
        if future.status != "error":
            raise FleetcastError(f"--cluster {self._address}: its scheduler is gone; start it and run the sweep again")
        error = future.exception()
        if type(error).__name__ != "KilledWorker":
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise FleetcastError(
                f"--cluster {self._address}: a worker cannot run points ({reason[:200]}); give its workers this version"
                " of fleetcast"
            )
        losses = self._losses[job.index] = self._losses.get(job.index, 0) + 1
        if losses >= MOST_LOSSES:
            return job, Outcome(FAILED, "the Dask workers that ran it were lost, time and again")
        schedule.put_back(job.index)
        return None

    def _look(self) -> None:
        """Who is there? Raises FleetcastError where nobody has been for long."""
        now = time.monotonic()
        if now - self._looked_s < LOOK_S:
            return
        self._looked_s = now
        try:
            self._threads = sum(self._client.nthreads().values())
        except OSError:
            raise FleetcastError(
                f"--cluster {self._address}: its scheduler is gone; start it and run the sweep again"
            ) from None
        if self._threads:
            self._peopled_s = now
        elif now - self._peopled_s > DESERTED_S:
            raise FleetcastError(
                f"--cluster {self._address}: has no workers; start some with dask worker {self._address}"
            )


def run_remote(job: Job, timeout_s: float, work: Work, fingerprint: str) -> Outcome:
    """On a Dask worker: run a point in this thread's worker process."""
    if simulator_fingerprint() != fingerprint:
        raise FleetcastError("its simulator is of another version")
    key = (timeout_s, work)
    if getattr(_keeper, "key", None) != key:
        _keeper.key, _keeper.runner = key, LocalRunner(1, timeout_s, work)
    runner: LocalRunner = _keeper.runner
    _kept.add(runner)
    found = (done for done in runner.run(Schedule([(0, job.index)]), lambda _: job) if done is not None)
    return next(found)[1]


def _end_runners() -> None:
    """On a Dask worker: end the worker processes that nobody needs any more."""
    while _kept:
        _kept.pop().__exit__()
