"""The clock that replicas are locked at: the lowest that anybody in charge of them asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sim.power.clocks import ClockHistory


class Clocked(Protocol):
    """A replica whose clock can be set."""

    def set_clock(self, clock: float, now_s: float) -> None:
        """A share of boost, from now on."""


class ClockLock:
    """Of replicas that are locked together."""

    def __init__(self, replicas: Sequence[Clocked], history: ClockHistory) -> None:
        """history: begins at their own clock, above which nobody locks them."""
        self._replicas, self.history = replicas, history
        self._asked = {"own": history.clocks[0]}

    def ask(self, who: str, clock: float, now_s: float) -> None:
        """Somebody's clock, a share of boost, in place of what they asked for before."""
        self._asked[who] = clock
        lowest = min(self._asked.values())
        if lowest != self.history.clocks[-1]:
            self.history.change(now_s, lowest)
            for replica in self._replicas:
                replica.set_clock(lowest, now_s)
