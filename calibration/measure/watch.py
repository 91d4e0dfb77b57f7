"""Progress on standard error, and the end of a process whose device no longer answers."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from calibration.measure.point import Point
from calibration.measure.results import NEVER_AGAIN, Results

HANG_FACTOR = 20.0  # times its estimate
HANG_S = 120.0  # and at least so long: a first call may load libraries and compile
HUNG_EXIT = 3
EVERY_S = 5.0  # between lines where standard error is no terminal


class ProgressLine:
    """`[ 812 of 2895] gemm m=16 ...; 214 s left`, rewritten on a terminal, now and then elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._label, self._shown = "", -EVERY_S

    def begin(self, point: Point) -> None:
        """Name the point that begins."""
        self._label = f"{point.kind} {point.label()}"

    def end(self, done: int, total: int, left_s: float) -> None:
        """Show how far the run is."""
        now = time.monotonic()
        if not self._terminal and now - self._shown < EVERY_S and done < total:
            return
        self._shown = now
        line = f"[{done:>{len(str(total))}} of {total}] {max(0.0, left_s):.0f} s left; {self._label}"
        self._stream.write(f"\r{line[:110]}\x1b[K" if self._terminal else f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave a clean line."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class Watchdog:
    """Ends the process when a point takes absurdly long: a hung kernel cannot be interrupted, only left.

    The point is recorded as hung, so that the next run goes round it.
    """

    def __init__(
        self,
        results: Results,
        leave: Callable[[int], object] = os._exit,
        least_s: float = HANG_S,
        period_s: float = 1.0,
    ) -> None:
        self._results, self._leave, self._least_s, self._period_s = results, leave, least_s, period_s
        self._current: tuple[Point, float] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def begin(self, point: Point, estimate_s: float) -> None:
        """A point begins."""
        self._current = (point, time.monotonic() + max(self._least_s, HANG_FACTOR * estimate_s))

    def end(self) -> None:
        """It ended."""
        self._current = None

    def close(self) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join(timeout=5)

    def _look(self) -> None:
        while not self._over.wait(self._period_s):
            current = self._current
            if current is not None and time.monotonic() > current[1]:
                self._results.skip(current[0], NEVER_AGAIN, "the device did not answer; the run was ended here")
                sys.stderr.write(f"\nfleetcast: {current[0].kind} {current[0].label()} hangs; run the command again\n")
                sys.stderr.flush()
                self._leave(HUNG_EXIT)
                return


class SessionWatch:
    """Progress and watchdog as the runner sees them."""

    def __init__(self, progress: ProgressLine, watchdog: Watchdog) -> None:
        self._progress, self._watchdog = progress, watchdog

    def begin(self, point: Point, estimate_s: float) -> None:
        """A point begins."""
        self._progress.begin(point)
        self._watchdog.begin(point, estimate_s)

    def end(self, done: int, total: int, left_s: float) -> None:
        """It ended."""
        self._watchdog.end()
        self._progress.end(done, total, left_s)
