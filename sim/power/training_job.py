"""A training beside servers that serve, on their clock: how far it is and what it has drawn, at any instant.

Its steps repeat until its clock changes, so that it needs no event of its own, however many steps go by. A change takes
effect within the step under way: the share of it that is done stays done, and what is left runs at the new clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.power.series import PowerSeries
from sim.power.training_steps import PricedStep, PricedSteps

Floats = NDArray[np.float64]


class TrainingJob:
    """From 0 on, without an end."""

    def __init__(self, steps: PricedSteps) -> None:
        self.steps = steps
        self._since_s, self._at = [0.0], [steps.own]
        self._done = [0.0]  # steps, until then
        self._joules = [np.zeros((len(steps.own.servers), 2))]  # the same of a server of each kind: wall, its GPUs

    def set_clock(self, clock: float, now_s: float) -> None:
        """A share of boost, from now on."""
        done = float(self.done(np.array([now_s]))[0])
        joules = self.joules(np.array([now_s]))[0]
        self._since_s.append(now_s)
        self._at.append(self.steps.at(clock))
        self._done.append(done)
        self._joules.append(joules)

    def done(self, times_s: Floats) -> Floats:
        """Steps from 0 to each instant, the share of one under way among them."""
        since_s, step_s = np.array(self._since_s), np.array([step.step_s for step in self._at])
        at = self._spans(times_s)
        return np.asarray(np.array(self._done)[at] + (times_s - since_s[at]) / step_s[at])

    def joules(self, times_s: Floats) -> Floats:
        """From 0 to each instant, of one server of each kind, at the wall and of its GPUs: (instants, kinds, 2)."""
        at, done = self._spans(times_s), self.done(times_s)
        found = np.zeros((len(times_s), len(self.steps.own.servers), 2))
        for span in np.unique(at):
            chosen = at == span
            before = _drawn(self._at[span], np.array([self._done[span]]))
            found[chosen] = self._joules[span] + _drawn(self._at[span], done[chosen]) - before
        return found

    def spans(self, begin_s: float, end_s: float) -> list[tuple[float, float, PricedStep]]:
        """From when to when at which clock, within a time."""
        edges = np.clip([*self._since_s, end_s], begin_s, end_s)
        return [
            (float(since), float(until), step)
            for since, until, step in zip(edges, edges[1:], self._at, strict=False)
            if until > since
        ]

    def _spans(self, times_s: Floats) -> NDArray[np.int64]:
        return np.asarray(np.searchsorted(self._since_s, times_s, side="right") - 1)


def _drawn(step: PricedStep, steps: Floats) -> Floats:
    """Joules of so many steps at one clock, begun at a step's start: (instants, kinds, 2)."""
    whole = np.floor(steps)
    part_s = (steps - whole) * step.step_s

    def of(series: PowerSeries) -> Floats:
        return np.asarray(whole * series.energy_j + series.joules(part_s))

    return np.stack([np.stack([of(one.wall), of(one.gpus)], axis=-1) for one in step.servers], axis=1)
