"""Which optimizer updates the weights: what a step of it reads and writes more than Adam's, and who must agree.

LAMB (You et al., arXiv 1904.00962) scales each tensor's update by the norms of the tensor and of the update. As apex's
fused kernels do it: one pass makes updates out of gradients and moments (16 bytes read, 12 written a parameter), two
take the norms (8 read), one applies the updates (8 read, 4 written): 48, where Adam's one pass moves 28.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam:
    """One pass over gradients, moments and weights, as the framework's profile counts it."""

    @property
    def more_bytes_per_parameter(self) -> float:
        """Read and written beside what Adam's step is."""
        return 0.0

    @property
    def agrees_on_tensors(self) -> bool:
        """Must ranks that hold parts of a tensor add up its norms?"""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lamb(Adam):
    """Adam's update scaled tensor by tensor, for batches several times as large."""

    @property
    def more_bytes_per_parameter(self) -> float:
        """Of fp32: the update, written and read twice; the weights, read once more."""
        return 20.0

    @property
    def agrees_on_tensors(self) -> bool:
        """Its norms are of whole tensors."""
        return True


OPTIMIZERS: dict[str, type[Adam]] = {"adam": Adam, "lamb": Lamb}
