"""Norms, activations, rotations, residual sums and gathers: bytes, from memory or still in the L2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hardware_models.price import Price

if TYPE_CHECKING:
    from hardware_models.ops import Elementwise, Embedding
    from hardware_models.specs import GpuSpec

START = {
    "launch_s": 2e-6,
    "memory_fraction": 0.8,  # of bandwidth
    "l2_ratio": 2.5,  # L2 over memory bandwidth
    "l2_share": 0.5,  # part of the L2 that the operands can keep
    "l2_power": 3.0,  # how sharply reuse ends beyond it
}
PRIOR = {"l2_ratio": 0.5, "l2_share": 0.4, "l2_power": 0.3}  # standard deviations of the logarithms


def price_elementwise(
    op: Elementwise | Embedding, parameters: Mapping[str, float], spec: GpuSpec, clock: float = 1.0
) -> Price:
    """Price a pass over elements: the kernel before has left in the L2 what fits there."""
    p = parameters
    moved = np.asarray(op.moved_bytes, float)
    kept = 1.0 / (1.0 + np.minimum(moved / (spec.l2_bytes * p["l2_share"]), 1e6) ** min(p["l2_power"], 20.0))
    bandwidth = spec.memory_bandwidth_bytes_per_s * p["memory_fraction"]
    memory = moved * (1.0 - kept + kept / p["l2_ratio"]) / bandwidth
    compute = np.asarray(op.flop, float) / (spec.peak_flop_per_s["fp32"] * clock * 0.5)
    return Price(np.full_like(memory, p["launch_s"]), compute, memory)
