"""A worker process as its parent sees it: started, given points, read, killed; each has a connection of its own.

One connection a worker, and no lock between them: whatever instant a worker is killed at, the others are unharmed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hardware_models.errors import FleetcastError
from sim.sweep.point import Job, Outcome, Work
from sim.sweep.worker import READY

ROOT = str(Path(__file__).parents[2])  # first, so that no other folder named `sim` passes for this one
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerLostError(Exception):
    """The process is gone; the message says how."""


class WorkerProcess:
    """Runs the jobs it is sent in their order."""

    def __init__(self, work: Work) -> None:
        ours, theirs = socket.socketpair()
        life_read, self._life = os.pipe()
        environment = dict.fromkeys(ONE_THREAD, "1") | os.environ | {"PYTHONPATH": os.pathsep.join((ROOT, *sys.path))}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sim.sweep.worker", str(theirs.fileno()), str(life_read)],
                pass_fds=(theirs.fileno(), life_read),
                stdin=subprocess.DEVNULL,
                stdout=2,  # ours is for results
                env=environment,
                process_group=0,  # an interrupt from the terminal is the parent's to handle
            )
        except OSError as error:
            ours.close()
            os.close(self._life)
            raise FleetcastError(f"sweep: a worker process cannot be started ({error.strerror}); free memory") from None
        finally:
            theirs.close()
            os.close(life_read)
        self.connection = Connection(ours.detach())
        self.jobs: deque[Job] = deque()  # sent and not answered; the first is being run
        self.since = time.monotonic()  # when the first was begun
        self.ready = False
        self._send(work)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, job: Job) -> None:
        """Give it one more; where it is lost, `receive` will say so."""
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs.append(job)
        self._send(job)

    def receive(self) -> tuple[Job, Outcome] | None:
        """What it says next (None: that it is ready); waits for it. Raises WorkerLostError."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            raise WorkerLostError(self._how()) from None
        self.since = time.monotonic()
        if not self.ready:
            assert message == READY
            self.ready = True
            return None
        return self.jobs.popleft(), message

    def close(self) -> None:
        """End it, at work or not."""
        self._process.kill()
        self._process.wait()
        self.connection.close()
        os.close(self._life)

    def _send(self, message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError:
            return  # it is lost, which shows when it is read from

    def _how(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
