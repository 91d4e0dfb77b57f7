"""What the passes of a pipeline stage were measured to take at each core clock, or under each power limit."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from hardware_models.specs import Spec

COLUMNS = ("forward_s", "forward_j", "backward_s", "backward_j")


class StageProfileSpec(Spec):
    """One GPU of one stage, a column entry a setting; other stages take so many times as long, and as much energy."""

    clock_mhz: tuple[float, ...] | None = None  # what the GPU was locked at
    power_limit_w: tuple[float, ...] | None = None  # or held under, where clocks were not locked
    forward_s: tuple[float, ...]
    forward_j: tuple[float, ...]
    backward_s: tuple[float, ...]
    backward_j: tuple[float, ...]
    stage_seconds: tuple[float, ...]  # of each stage of the pipeline, over the profiled one
    stage_joules: tuple[float, ...]
    blocking_w: float  # of a GPU that waits for others
    step: float  # MHz, or watts, from one setting that can be chosen to the next: finer than what was measured

    @model_validator(mode="after")
    def _columns_are_of_one_length(self) -> Self:
        if (self.clock_mhz is None) == (self.power_limit_w is None):
            raise ValueError("give 'clock_mhz' or 'power_limit_w', one of the two")
        for name in COLUMNS:
            if len(getattr(self, name)) != len(self.settings):
                raise ValueError(f"{name} has {len(getattr(self, name))} entries; give one of each clock or limit")
        if len(self.stage_seconds) != len(self.stage_joules) or not self.stage_seconds:
            raise ValueError("stage_seconds and stage_joules: give as many of each as the pipeline has stages")
        figures = (*self.settings, *(x for name in COLUMNS for x in getattr(self, name)), self.step)
        if not all(0 < x < float("inf") for x in (*figures, *self.stage_seconds, *self.stage_joules)):
            raise ValueError("clocks, limits, seconds, joules and the step must be above 0")
        if self.blocking_w < 0:
            raise ValueError(f"blocking_w = {self.blocking_w:g}: waiting draws 0 W or more")
        return self

    @property
    def settings(self) -> tuple[float, ...]:
        """Clocks or limits."""
        return self.clock_mhz or self.power_limit_w or ()
