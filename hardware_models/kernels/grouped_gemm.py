"""Mixture-of-experts products: every active expert's rows padded to whole blocks, its weights read once a block.

As vLLM's Triton kernel does it (fused_moe): rows are sorted by expert and padded to blocks of 16 to 128; each block
computes against its expert's weights, which its neighbours may find in the L2 or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.dtypes import bytes_per_element
from hardware_models.kernels.gemm import K_STEP, above_roof, overlapped, wave_time
from hardware_models.price import Price

if TYPE_CHECKING:
    from hardware_models.ops import GroupedGemm
    from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]

BLOCKS = np.array([16.0, 32.0, 64.0, 128.0, 256.0])  # rows of a block
COLUMNS = 128.0  # outputs of a block in a row
LOGISTIC = 1.702  # the logistic function of this multiple is the normal distribution's to 0.01

START = {
    "launch_s": 8e-6,  # a projection's share of sorting, aligning and launching
    "row_s": 2e-9,  # and of what grows with the rows sorted
    "compute_fraction": 0.7,  # of peak, for the largest block
    "block_half": 20.0,  # operand reuse at which a block reaches half of that
    "block_s": 1e-6,  # prologue and epilogue of a wave
    "wave_quantisation": 0.7,  # 1: whole waves; 0: a partial wave costs its part
    "idle_boost": 0.2,  # a wave that leaves multiprocessors idle runs faster, as occupancy to this power
    "memory_fraction": 0.85,  # of bandwidth, with every multiprocessor loading
    "saturation": 0.03,  # bandwidth grows as 1 - exp(-blocks in flight x this)
    "reread": 0.7,  # share of an expert's weights that its second and later blocks read from memory again
    "overlap": 4.0,  # compute C and memory M overlap to (C^p + M^p)^(1/p)
    "choice": 0.1,  # blocks up to about this share slower than the best are chosen as well
}
PRIOR = {  # standard deviations of the logarithms around START
    "compute_fraction": 0.2,
    "launch_s": 1.0,
    "row_s": 1.0,
    "block_half": 0.6,
    "block_s": 0.5,
    "wave_quantisation": 0.5,
    "idle_boost": 0.7,
    "memory_fraction": 0.06,
    "saturation": 0.7,
    "reread": 0.5,
    "overlap": 0.3,
    "choice": 0.7,
}


def price_grouped_gemm(
    op: GroupedGemm, parameters: Mapping[str, float], spec: GpuSpec, peak_flop_per_s: float, clock: float = 1.0
) -> Price:
    """Price one projection of all experts, each size a number or (points,)."""
    p, sms = parameters, spec.sm_count
    tokens = np.atleast_1d(np.asarray(op.tokens, float))[:, None]
    n, k, experts = (np.atleast_1d(np.asarray(x, float))[:, None] for x in (op.n, op.k, op.experts))
    rows = tokens * np.atleast_1d(np.asarray(op.top_k, float))[:, None]
    active = np.atleast_1d(np.asarray(op.active_experts, float))[:, None]
    blocks = np.maximum(active, 1e-9) * _blocks_per_expert(rows, active, experts, op.balanced)
    tiles = blocks * np.ceil(n / COLUMNS)
    reuse = BLOCKS * COLUMNS / (BLOCKS + COLUMNS)
    share = p["compute_fraction"] / (1.0 + p["block_half"] / reuse)
    tile_flop = 2.0 * BLOCKS * COLUMNS * (np.ceil(k / K_STEP) * K_STEP) / share
    waves = tiles / sms
    compute = wave_time(waves, p) * tile_flop * sms / (peak_flop_per_s * clock) + p["block_s"] * np.ceil(waves)
    weights = n * k * bytes_per_element(op.weight_dtype)
    moved = weights * (active + p["reread"] * (blocks - active))
    moved = moved + rows * (k * bytes_per_element(op.dtype) + n * max(2.0, bytes_per_element(op.dtype)))
    bandwidth = spec.memory_bandwidth_bytes_per_s * p["memory_fraction"]
    memory = moved / (bandwidth * (1.0 - np.exp(-np.minimum(tiles, 2.0 * sms) * p["saturation"])))
    compute = np.maximum(compute, 2.0 * rows * n * k / (peak_flop_per_s * clock))
    largest = np.maximum(compute, memory)
    busy = largest * overlapped(compute / largest, memory / largest, p["overlap"])
    busy, memory = above_roof(busy, memory, active * weights, spec)
    weight = np.exp(-(busy / busy.min(axis=1, keepdims=True) - 1.0) / p["choice"])
    weight /= weight.sum(axis=1, keepdims=True)
    busy, compute, memory = ((weight * x).sum(axis=1) for x in (busy, compute, memory))
    scale = busy / np.maximum(compute, memory)
    launch = p["launch_s"] + p["row_s"] * rows[:, 0]
    shape = np.broadcast_shapes(*(np.shape(x) for x in (op.tokens, op.n, op.k, op.experts, op.top_k)))
    return Price(launch.reshape(shape), (compute * scale).reshape(shape), (memory * scale).reshape(shape))


def _blocks_per_expert(rows: Floats, active: Floats, experts: Floats, balanced: bool) -> Floats:
    """Expected blocks of an active expert, for each block size: (points, blocks).

    Balanced: every active expert has the same rows. Else rows fall on experts at random (Poisson), and the mean of
    ceil(rows / block) is the sum over j of P(rows > j block).
    """
    if balanced:
        return np.asarray(np.ceil(np.maximum(rows / np.maximum(active, 1e-9), 1e-9) / BLOCKS - 1e-9))
    mean = rows / experts
    spread = np.sqrt(np.maximum(mean, 1e-9))
    total = np.where(mean > 0, 1.0 - np.exp(-mean), 0.0) * np.ones_like(BLOCKS)
    for j in range(1, 9):
        total = total + 1.0 / (1.0 + np.exp(-np.clip(LOGISTIC * (mean - j * BLOCKS) / spread, -60.0, 60.0)))
    many = mean / BLOCKS + 0.5
    blocks = np.where(mean > 7.0 * BLOCKS, many, total) * experts / np.maximum(active, 1e-9)
    return np.asarray(np.maximum(blocks, 1.0))
