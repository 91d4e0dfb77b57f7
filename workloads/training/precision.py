"""Matrix products in fp8: which passes turn their operands to it, and what of them is kept.

Hopper's fp8 products read both operands along the dimension that is summed, so that each operand is needed twice: as it
is and, for the gradients, turned. A pass counts reads and writes of 16-bit elements. Per-tensor scales, delayed (from
the largest values of earlier steps) or current (from a pass over the tensor first): NVIDIA Transformer Engine, "Using
FP8". Scales of tiles of 1 x 128 activations and blocks of 128 x 128 weights: DeepSeek-V3 (arXiv 2412.19437), section
3.3; gradients of weights need tiles of 128 x 1 and turn what was kept once more.
"""

from __future__ import annotations

from dataclasses import dataclass

TILE = 128  # activations that share a scale
SCALE_BYTES = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp8Recipe:
    """How operands of a product become fp8; `kept_bytes`: of an element of its input, from forward to backward."""

    input_reads: float  # forward, an element of the input
    input_writes: float
    again_reads: float  # before the gradient of the weights, an element of the input that was kept
    again_writes: float
    gradient_reads: float  # backward, an element of the output's gradient
    gradient_writes: float
    kept_bytes: float = 1.0
    kernels: int = 1  # that turn one tensor

    @property
    def sent_bytes(self) -> float:
        """An element that ranks exchange before a product, with its part of a scale."""
        return self.kept_bytes


TILED_BYTES = 1.0 + SCALE_BYTES / TILE

FP8_RECIPES: dict[str, Fp8Recipe] = {
    "delayed": Fp8Recipe(
        input_reads=1.0, input_writes=1.0, again_reads=0.0, again_writes=0.0, gradient_reads=1.0, gradient_writes=1.0
    ),
    "current": Fp8Recipe(
        input_reads=2.0, input_writes=1.0, again_reads=0.0, again_writes=0.0, gradient_reads=2.0, gradient_writes=1.0,
        kernels=3,  # its largest value, the scale, the rounding
    ),
    "blockwise": Fp8Recipe(
        input_reads=1.0, input_writes=TILED_BYTES / 2, again_reads=TILED_BYTES / 2, again_writes=TILED_BYTES / 2,
        gradient_reads=1.0, gradient_writes=TILED_BYTES, kept_bytes=TILED_BYTES,
    ),
}  # fmt: skip
