"""Measures points in order until they, or the budget, are used up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from calibration.measure.cost import Costs, resident_bytes
from calibration.measure.point import Bench, CannotMeasureError, Point
from calibration.measure.results import NEVER_AGAIN, Results

RESERVE_S = 1.0  # kept free at the end for the summary
MEMORY_FRACTION = 0.9  # of the free memory that one point may take
POINT_LIMIT_S = 0.25  # timed part of one point


class Watch(Protocol):
    """Sees each point begin and end: progress for people, and the watchdog against a hang."""

    def begin(self, point: Point, estimate_s: float) -> None:
        """A point is about to be measured."""

    def end(self, done: int, total: int, left_s: float) -> None:
        """A point was measured or skipped: `done` of `total`, `left_s` of the budget to go."""


class Target(Protocol):
    """The machine as the runner needs it."""

    def free_bytes(self) -> float:
        """Device memory free for operands."""

    def recover(self) -> str | None:
        """Release memory after a failed point; returns why no further point can be measured, or None."""


@dataclass(slots=True, kw_only=True)
class Runner:
    """Measures; every point ends in a file, with its time or with the reason why it has none."""

    benches: Mapping[str, Bench]
    target: Target
    results: Results
    costs: Costs
    watch: Watch
    clock: Callable[[], float] = time.monotonic
    point_limit_s: float = POINT_LIMIT_S
    _broken: str | None = None
    _deadline: float = 0.0

    def run(self, points: Sequence[Point], budget_s: float) -> int:
        """Measure `points` in their order; returns how many were measured now. KeyboardInterrupt passes through."""
        self._deadline = self.clock() + budget_s - RESERVE_S
        waiting = [point for point in points if point.key not in self.results.measured]
        measured = 0
        for done, point in enumerate(waiting, start=1):
            obstacle = self._obstacle(point)
            if obstacle is not None:
                self.results.skip(point, *obstacle)
            else:
                measured += self._measure(point)
            self.watch.end(done, len(waiting), self._left_s())
        return measured

    def _left_s(self) -> float:
        return self._deadline - self.clock()

    def _obstacle(self, point: Point) -> tuple[str, str] | None:
        """Reason and detail for not even trying a point."""
        if self.results.is_fatal(point):
            return NEVER_AGAIN, "an earlier run ended here"
        if self._broken is not None:
            return "device", self._broken
        if point.kind not in self.benches:
            return "unsupported", "this machine has no way to measure the kind"
        estimate, left = self.costs.estimate_s(point), self._left_s()
        if estimate > left:
            return "budget", f"would take about {estimate:.3g} s of {max(0.0, left):.3g} s left"
        needed, free = resident_bytes(point), self.target.free_bytes()
        if needed > MEMORY_FRACTION * free:
            return "memory", f"needs {needed:.3g} bytes of {free:.3g} free"
        return None

    def _measure(self, point: Point) -> int:
        """1 if the point was measured, 0 if it raised."""
        started = self.clock()
        self.watch.begin(point, self.costs.estimate_s(point))
        try:
            self.results.add(point, self.benches[point.kind](point, self.point_limit_s))
        except CannotMeasureError as error:
            self.results.skip(point, "unsupported", str(error))
        except Exception as error:  # whatever a kernel library raises is the finding; it is recorded, not hidden
            self._broken = self.target.recover()
            reason = "error" if self._broken is None else NEVER_AGAIN
            self.results.skip(point, reason, f"{type(error).__name__}: {_first_line(error)}")
        else:
            self.costs.learn(point, self.clock() - started)
            return 1
        slow_failure = self.clock() - started
        if slow_failure > self.costs.estimate_s(point):
            self.costs.learn(point, slow_failure)
        return 0


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
