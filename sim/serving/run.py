"""A run: equal steps in a row, as one event. Its times in closed form, so that it can be asked, or cut, at any
instant.
"""

from __future__ import annotations

from math import sqrt

from policies.serving import Batch

SLACK = 1e-12  # instants closer than this share of them (of 1 s at least) are one: rounding of sums of steps is less


def slack_s(time_s: float) -> float:
    """How much later an instant may be and still be the same."""
    return SLACK * time_s if time_s > 1.0 else SLACK


class Run:
    """`steps` steps of one composition; the i-th (from 0) takes first_s + i x slope_s; slope_s is never negative."""

    __slots__ = (
        "batch", "clock", "copy_s", "decodes", "end_s", "first_s", "padding_rows", "part", "slope_s", "start_s",
        "steps", "transfer_s", "waited_s",
    )  # fmt: skip

    def __init__(
        self,
        batch: Batch,
        start_s: float,
        copy_s: float,  # swapping KV blocks, before the first step
        first_s: float,
        slope_s: float,
        steps: int,
        decodes: int,  # decoding sequences in each step
        padding_rows: int,  # finished sequences still computed
        transfer_s: float = 0.0,  # of first_s, that pipeline stages stood still while their input was on its way
        clock: float = 1.0,  # of the cores, a share of boost
        part: float = 1.0,  # of one step's work, where its clock changed under way: what was left then
        waited_s: float = 0.0,  # that this step had been under way before start_s
    ) -> None:
        self.batch = batch
        self.clock = clock
        self.part = part
        self.waited_s = waited_s
        self.start_s = start_s
        self.copy_s = copy_s
        self.first_s = first_s
        self.slope_s = slope_s
        self.steps = steps
        self.decodes = decodes
        self.padding_rows = padding_rows
        self.transfer_s = transfer_s
        self.end_s = start_s + copy_s + steps * first_s + slope_s * (0.5 * steps * (steps - 1))  # as of `end_after`

    @property
    def first_end_s(self) -> float:
        """When the first step is done."""
        return self.start_s + self.copy_s + self.first_s

    def end_after(self, steps: int) -> float:
        """When that many steps are done."""
        return self.start_s + self.copy_s + steps * self.first_s + self.slope_s * (0.5 * steps * (steps - 1))

    def steps_until(self, time_s: float) -> int:
        """The fewest steps (at least one, at most all) whose end is at or after an instant, to within `slack_s`."""
        time_s -= slack_s(time_s)
        left = time_s - self.start_s - self.copy_s
        half = self.first_s - 0.5 * self.slope_s  # left = half k + slope/2 k^2, solved for k without cancellation
        guess = int(2.0 * left / (half + sqrt(half * half + 2.0 * self.slope_s * left))) if left > 0.0 else 1
        steps = min(max(guess, 1), self.steps)
        while steps > 1 and self.end_after(steps - 1) >= time_s:
            steps -= 1
        while steps < self.steps and self.end_after(steps) < time_s:
            steps += 1
        return steps

    def cut(self, time_s: float) -> None:
        """End with the step under way at an instant."""
        self.steps = self.steps_until(time_s)
        self.end_s = self.end_after(self.steps)
