"""The app's end of a worker process: starts it, sends it orders, reads its messages, replaces it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any


class WorkerEnded(Exception):  # noqa: N818  # an event, which the runner turns into a sentence
    """The process is gone; began: after it had taken up its order."""

    def __init__(self, began: bool) -> None:
        super().__init__()
        self.began = began


class Worker:
    """One warm process; for one thread at a time."""

    def __init__(self, memory_limit_bytes: int) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._rest = b""  # of a message that has not all come yet
        self._began = False
        self._process = self._started()

    @property
    def pid(self) -> int:
        """Of the process that there is now."""
        return self._process.pid

    def order(self, line: str) -> None:
        """Send an order, to a new process where the old one died while idle."""
        if self._process.poll() is not None:
            self.renew()
        self._began = False
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except OSError:
            raise WorkerEnded(began=False) from None

    def messages(self, seconds: float) -> Iterator[dict[str, Any]]:
        """What it has said, after waiting for so long at most; raises WorkerEnded when it has died."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], seconds)[0]:
            return
        chunk = os.read(descriptor, 65_536)
        if not chunk:
            raise WorkerEnded(self._began)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            self._began = self._began or "began" in message
            yield message

    def renew(self) -> None:
        """End the process and start another."""
        self.end()
        self.close()
        self._rest = b""
        self._process = self._started()

    def end(self) -> None:
        """Kill the process, from any thread; whoever listens to it learns of it."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of the pipes of an ended process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "app.web.worker", str(self._memory_limit_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
