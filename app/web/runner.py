"""Runs scenarios in warm worker processes, each into the run folder of its identity; watched, stopped and limited.

A page submits a scenario and waits on the `Run` it gets; what is kept already is finished at once, and equal scenarios
share one simulation.
"""

from __future__ import annotations

import json
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

from app.web.families import SERVING, Family, family_of
from app.web.settings import Settings
from app.web.store import Store
from app.web.worker_process import Worker, WorkerEnded
from sim.identity import scenario_id
from sim.scenario_file import AnyScenario

FORGOTTEN_S = 6.0  # a run that no page has looked at for so long is ended
LOOK_S = 0.05
FAILURES_KEPT = 200
ATTEMPTS = 3  # to find a worker that takes up an order


class Run:
    """One simulation as pages see it."""

    def __init__(self, run_id: str, family: Family = SERVING) -> None:
        self.run_id = run_id
        self.family = family
        self.state = "waiting"  # waiting, running, finished, failed, stopped
        self.done = 0
        self.total = 0  # requests; 0 while they are being drawn
        self.message = ""  # why it failed
        self.passing = False  # it would not fail again in the same way, so its failure is not kept
        self.started_s = time.monotonic()
        self._watchers: dict[str, float] = {}
        self._over = threading.Event()

    @property
    def elapsed_s(self) -> float:
        """Since it was asked for."""
        return time.monotonic() - self.started_s

    def wait(self, seconds: float, watcher: str) -> bool:
        """Is it over, at the latest in so many seconds? Keeps it alive on behalf of `watcher`."""
        self._watchers[watcher] = time.monotonic()
        return self._over.wait(seconds)

    def leave(self, watcher: str) -> None:
        """A watcher wants it no more; without watchers it is stopped."""
        self._watchers.pop(watcher, None)

    @property
    def over(self) -> bool:
        """Has it ended, in whichever way?"""
        return self._over.is_set()

    @property
    def wanted(self) -> bool:
        """Does anybody look at it?"""
        now = time.monotonic()
        return any(now - seen < FORGOTTEN_S for seen in list(self._watchers.values()))

    def end(self, state: str, message: str = "") -> None:
        """It has ended."""
        self.state, self.message = state, message
        self._over.set()


class Runner:
    """At most `settings.workers` simulations at once; the others wait their turn."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}  # under way
        self._failures: dict[str, str] = {}  # identity -> sentence, so that looking again does not cost again
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._workers = [Worker(settings.memory_limit_bytes) for _ in range(settings.workers)]
        for worker in self._workers:
            self._idle.put(worker)

    def submit(self, scenario: AnyScenario, watcher: str, again: bool = False) -> Run:
        """The run of a valid scenario; raises FleetcastError where a file that it names cannot be read.

        again: try once more what has failed before.
        """
        run_id = scenario_id(scenario)
        with self._lock:
            if again:
                self._failures.pop(run_id, None)
            run = self._runs.get(run_id)
            if run is None:
                run = Run(run_id, family_of(scenario))
                run.wait(0.0, watcher)
                if self._store.has(run_id):
                    run.end("finished")
                elif run_id in self._failures:
                    run.end("failed", self._failures[run_id])
                else:
                    self._runs[run_id] = run
                    self._start(run, scenario)
            run.wait(0.0, watcher)
        return run

    def process_ids(self) -> list[int]:
        """Of the workers, as the system numbers them."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End all workers, and with them what they simulate."""
        self._closing = True
        for worker in self._workers:
            worker.end()
        for thread in self._threads:
            thread.join(timeout=5.0)
        for worker in self._workers:
            worker.close()

    def _start(self, run: Run, scenario: AnyScenario) -> None:
        thread = threading.Thread(target=self._serve, args=(run, scenario), daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()

    def _serve(self, run: Run, scenario: AnyScenario) -> None:
        """From waiting to the end, in a thread of its own."""
        ended = "failed", "the app failed; its log has more"
        try:
            worker = self._free_worker(run)
            ended = ("stopped", "") if worker is None else self._simulated(run, worker, scenario)
            if ended[0] == "finished":
                self._store.prune()
        finally:  # whatever fails, pages do not wait for ever
            self._finish(run, *ended)

    def _simulated(self, run: Run, worker: Worker, scenario: AnyScenario) -> tuple[str, str]:
        """Have a worker do it, which is free again afterwards; returns how it ended, and why."""
        run.state, run.started_s = "running", time.monotonic()
        folder = self._store.result_folder(run.run_id).resolve()
        order = {"scenario": scenario.model_dump(), "run_id": run.run_id, "folder": str(folder)}
        try:
            return self._simulate(run, worker, json.dumps(order))
        except BaseException:
            worker.end()  # it may still be at it; the next order makes a new one
            raise
        finally:
            self._idle.put(worker)

    def _simulate(self, run: Run, worker: Worker, order: str) -> tuple[str, str]:
        """As often as it takes; a worker that died before it began is replaced."""
        for _ in range(ATTEMPTS):
            try:
                worker.order(order)
                return self._attend(run, worker)
            except WorkerEnded as end:
                if self._closing:
                    break
                worker.renew()
                if end.began:
                    break
        return "failed", (
            f"the process of the simulation was killed, for want of memory most likely; {run.family.smaller}"
        )

    def _free_worker(self, run: Run) -> Worker | None:
        """The next free one; None where the run is not wanted any more."""
        while run.wanted and not self._closing:
            try:
                return self._idle.get(timeout=LOOK_S)
            except Empty:
                continue
        return None

    def _attend(self, run: Run, worker: Worker) -> tuple[str, str]:
        """Listen to the worker until the run is over; returns how, and why. Raises WorkerEnded."""
        deadline = time.monotonic() + self._settings.time_limit_s
        while True:
            for message in worker.messages(LOOK_S):
                ended = self._heard(run, worker, message)
                if ended is not None:
                    return ended
            if not run.wanted:
                worker.renew()
                return "stopped", ""
            if time.monotonic() > deadline:
                worker.renew()
                return "failed", (
                    f"the simulation took longer than {self._settings.time_limit_s:g} s, the app's limit{_done(run)};"
                    f" {run.family.smaller}, start the app with a higher --time-limit-s, or use the command line"
                )

    @staticmethod
    def _heard(run: Run, worker: Worker, message: dict[str, Any]) -> tuple[str, str] | None:
        if "total" in message:
            run.done, run.total = message["done"], message["total"]
        if "finished" in message:
            return "finished", ""
        if "error" in message:
            if "worn" in message:
                worker.renew()
            run.passing = "changed" in message
            return "failed", message["error"]
        return None

    def _finish(self, run: Run, state: str, message: str) -> None:
        with self._lock:
            del self._runs[run.run_id]
            if state == "failed" and not run.passing:
                self._failures[run.run_id] = message
                while len(self._failures) > FAILURES_KEPT:
                    del self._failures[next(iter(self._failures))]
        run.end(state, message)


def _done(run: Run) -> str:
    """How far it is, where it says so."""
    if run.family.model is not SERVING.model:
        return ""
    return f", with {run.done:,} of {run.total:,} requests done"
