"""Whose activations go to the host between forward and backward (Wan et al., PipeOffload, 2503.01328)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Annotated

from annotated_types import Interval

Fraction = Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationOffload:
    """Everything stays on the GPU."""

    def stages(self, held: Sequence[int]) -> frozenset[int]:
        """Those of a device's stages, given in the model's order, that do."""
        return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOffload(ActivationOffload):
    """A part of a device's stages, whole: those that wait longest for their backward, the first in the model's order.

    Of v chunks the c-th one's activations live for 2(v - c) + 1 of v turns, so that half of the stages take three
    quarters of the memory.
    """

    fraction: Fraction = 1.0

    def stages(self, held: Sequence[int]) -> frozenset[int]:
        """So many, rounded up."""
        return frozenset(held[: ceil(self.fraction * len(held) - 1e-9)])


ACTIVATION_OFFLOAD: dict[str, type[ActivationOffload]] = {"none": ActivationOffload, "stages": StageOffload}
