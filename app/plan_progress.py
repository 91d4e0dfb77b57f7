"""One line of progress on standard error while a plan is searched; without a terminal, a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from sim.plan.search import Search

PERIOD_S = 0.2  # between two rewritings
PLAIN_PERIOD_S = 10.0  # between two lines where there is no terminal
SILENT_S = 1.0  # shorter searches show nothing


class Line:
    """Where a search is, and about how long it will take."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def search(self, search: Search) -> None:
        """Of a search over candidates."""
        passed = time.monotonic() - self._started
        self.say(search_line(search.decided, len(search.candidates), search.simulations, search.at, passed))

    def say(self, text: str) -> None:
        """Show a line, if the last was long enough ago."""
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if now - self._started < SILENT_S or now - self._last < (PERIOD_S if terminal else PLAIN_PERIOD_S):
            return
        self._last = now
        if terminal:
            sys.stderr.write(f"\r{text[:150]}\x1b[K")
            self._shown = True
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Leave no line behind on a terminal."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def search_line(decided: int, total: int, simulations: int, at: str, passed_s: float) -> str:
    """Candidates decided of all, and seconds left at most at the pace so far: the rest may well lose by price."""
    left = f", at most about {passed_s * (total - decided) / decided:,.0f} s left" if decided else ""
    return f"{decided} of {total} candidates decided, {simulations} simulations{left}; now {at}"
