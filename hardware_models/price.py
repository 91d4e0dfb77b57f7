"""Seconds of one kernel and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds of an operator and what they are made of; arrays broadcast over the operator's sizes."""

    launch_s: Floats
    compute_s: Floats
    memory_s: Floats

    @property
    def seconds(self) -> Floats:
        """Launch, then compute and memory traffic overlapped."""
        return self.launch_s + np.maximum(self.compute_s, self.memory_s)

    @property
    def compute_bound(self) -> NDArray[np.bool_]:
        """Where arithmetic, not memory, sets the pace."""
        return self.compute_s >= self.memory_s
