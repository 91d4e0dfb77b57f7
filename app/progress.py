"""One line of progress on standard error for a run that takes long."""

from __future__ import annotations

import sys
import threading
import time

from sim.serving.record import RequestLog

SILENT_S = 2.0  # shorter runs show nothing
PERIOD_S = 0.5


class Progress:
    """Shows the share of requests done and the time left while a run goes on; silent without a terminal."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, log: RequestLog) -> None:
        """Begin to look at a run's log."""
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._show, args=(log, time.monotonic()), daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Clear the line."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _show(self, log: RequestLog, started: float) -> None:
        shown = False
        while not self._over.wait(PERIOD_S):
            passed = time.monotonic() - started
            if passed >= SILENT_S:
                sys.stderr.write(f"\r{progress_line(log.finished, len(log.requests), passed)}\x1b[K")
                sys.stderr.flush()
                shown = True
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def progress_line(done: int, total: int, passed_s: float) -> str:
    """Requests done of all, and seconds left at the pace so far."""
    left = f", about {passed_s * (total - done) / done:,.0f} s left" if done else ""
    return f"{done:,} of {total:,} requests simulated ({done / total:.0%}){left}"
