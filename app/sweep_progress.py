"""How far a sweep is, on standard error, and how it is told to stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sim.sweep.progress import Progress

PERIOD_S = 0.3  # of a line that is written over
PLAIN_PERIOD_S = 10.0  # of lines below each other


class ProgressLine:
    """One line that changes on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next_s = time.monotonic() + (PERIOD_S if self._terminal else PLAIN_PERIOD_S)
        self._shown = False

    def show(self, progress: Progress) -> None:
        """Say it, if it is time to."""
        now = time.monotonic()
        if now < self._next_s or progress.state != "running":
            return
        if self._terminal:
            sys.stderr.write(f"\r{progress_text(progress)}\x1b[K")
            self._next_s, self._shown = now + PERIOD_S, True
        else:
            sys.stderr.write(f"{progress_text(progress)}\n")
            self._next_s = now + PLAIN_PERIOD_S
        sys.stderr.flush()

    def close(self) -> None:
        """Clear the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def progress_text(progress: Progress) -> str:
    """Points done of all, failures, and the time left at the pace so far."""
    share = progress.done / progress.total if progress.total else 1.0
    text = f"{progress.done:,} of {progress.total:,} points ({share:.0%})"
    if progress.cached:
        text += f", {progress.cached:,} known before"
    if progress.failed:
        text += f", {progress.failed:,} failed"
    if progress.message:
        return f"{text}, {progress.message}"
    left = progress.eta_s
    return f"{text}, about {time_text(left)} left" if left else text


def time_text(seconds: float) -> str:
    """`40 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:,.0f} s" if seconds >= 1 else "1 s"
    return f"{seconds / 60:,.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT interrupts at once."""
    stop = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
