"""What smoothing makes of watts: those of GPUs, and those that servers draw at the wall.

Watts are means over ticks of one length, the control period of the hardware that smooths. A way changes one or the
other; what it changes on the GPUs is seen at the wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GpuBounds:
    """Of every GPU."""

    limit_w: float  # the most it draws
    waiting_w: float  # a process holds it, nothing runs


@dataclass(frozen=True, slots=True)
class Stored:
    """Watts drawn from the grid, and what is stored meanwhile."""

    watts: Floats  # (ticks,)
    stored_j: Floats  # at the start of each tick and at the end: (ticks + 1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """A transform of watts; what a class leaves out stays as the work has it."""

    def of_gpus(self, watts: Floats, period_s: float, gpu: GpuBounds) -> Floats:
        """What GPUs draw whose work would draw `watts`: (GPUs, ticks). Less than that is work held back."""
        return watts

    def at_the_wall(self, watts: Floats, period_s: float, gpus: int) -> Stored:
        """What is drawn from the grid for servers that draw `watts`: (ticks,); gpus: how many these have."""
        return Stored(watts, np.zeros(len(watts) + 1))

    def settling_s(self, gpu: GpuBounds) -> float:
        """Until it does the same in every step, from how it begins."""
        return 0.0

    @property
    def longer_passes_fraction(self) -> float:
        """By how much passes take longer beside it, all the time."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSmoothing(Smoothing):
    """Power swings as the work does."""
