"""Dense matrix products: whole tiles on waves of multiprocessors, streamed weights, operands re-read past the L2.

A tile of t_m x t_n outputs costs 2 t_m t_n k flop on one multiprocessor however few of its rows are used, and tiles
run in waves over the multiprocessors (NVIDIA, Matrix Multiplication Background guide, 2020). Weights come from memory;
activations are still in the L2 from the kernel before, as far as they fit; where a wave's operands outgrow the L2 they
are read again. The library's heuristic chooses a good tile and split of k, not always the best.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.dtypes import bytes_per_element
from hardware_models.price import Price

if TYPE_CHECKING:
    from hardware_models.ops import Gemm, Size
    from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]

# Output tiles of cuBLAS and CUTLASS kernels (rows x columns), and into how many parts they split k.
TILES = np.array(
    [(256, 128), (128, 256), (128, 128), (64, 256), (256, 64), (128, 64), (64, 128), (64, 64), (32, 128), (32, 64),
     (16, 128), (16, 64), (32, 32)],
    dtype=float,
)  # fmt: skip
SPLITS = np.array([1, 2, 3, 4, 6, 8, 16], dtype=float)
# 8-bit products of vLLM run CUTLASS kernels picked by rows alone, without splitting k: (rows up to, tile). As the
# dispatch of vLLM 0.10 (csrc/quantization/w8a8/cutlass) is remembered, not looked up; published timings jump at these
# rows.
TILES_BY_ROWS = {
    "hopper": [(64, (64, 64)), (128, (64, 128)), (np.inf, (128, 128))],
    "ada": [(16, (16, 64)), (32, (32, 64)), (64, (64, 64)), (128, (64, 128)), (np.inf, (128, 128))],
}
K_STEP = 32.0  # elements of k a tile advances at once
TILES_PER_SM = 4.0  # at most so many small tiles share a multiprocessor
FULL_TILE = 16384.0  # outputs of a tile that has a multiprocessor to itself
MAX_CHUNK = 128  # sizes priced at once, so that what lies between stays in a processor's cache

# First guesses, and priors (mean, standard deviation of the logarithm) of what one data set may not determine.
START = {
    "launch_s": 2e-6,  # kernel launch, as a graph or a busy stream sees it
    "compute_fraction": 0.9,  # of peak, for the largest tile
    "tile_half": 20.0,  # operand reuse t_m t_n / (t_m + t_n) at which a tile reaches half of that
    "tile_power": 2.0,  # and how steeply
    "tile_s": 1e-6,  # prologue and epilogue of a wave
    "k_extra": 150.0,  # elements of k that filling and draining the pipeline costs
    "wave_quantisation": 0.7,  # 1: whole waves; 0: a partial wave costs its part
    "idle_boost": 0.2,  # a wave that leaves multiprocessors idle runs faster, as occupancy to this power (shared power)
    "memory_fraction": 0.8,  # of bandwidth, with every multiprocessor loading
    "saturation": 0.05,  # bandwidth grows as 1 - exp(-tiles in flight x this)
    "l2_ratio": 3.0,  # L2 over memory bandwidth
    "l2_share": 0.6,  # part of the L2 that one operand can keep
    "l2_power": 2.0,  # how sharply reuse ends beyond it
    "raster": 3.0,  # rows of a wave's block of tiles over those of a square block
    "split_s": 1.5e-6,  # a split's second kernel, which adds the partial sums
    "overlap": 4.0,  # compute C and memory M overlap to (C^p + M^p)^(1/p)
    "choice": 0.05,  # tiles up to about this share slower than the best are chosen as well
}
# 8-bit products first round their activations, row by row, in a kernel of its own.
QUANTISE_START = {
    "quantise_launch_s": 2e-6,
    "quantise_row_s": 1e-7,  # a row's reduction, on one multiprocessor
    "quantise_fraction": 0.4,  # of memory bandwidth
}
PRIOR = {
    "launch_s": (2e-6, 0.3),
    "compute_fraction": (0.95, 0.15),
    "tile_half": (20.0, 0.6),
    "tile_power": (2.0, 0.4),
    "tile_s": (1e-6, 0.5),
    "k_extra": (150.0, 0.5),
    "wave_quantisation": (0.7, 0.5),
    "idle_boost": (0.2, 0.7),
    "memory_fraction": (0.82, 0.08),
    "saturation": (0.05, 0.7),
    "l2_ratio": (3.0, 0.4),
    "l2_share": (0.6, 0.3),
    "l2_power": (2.0, 0.4),
    "raster": (2.0, 0.7),
    "split_s": (1.5e-6, 0.4),
    "overlap": (5.0, 0.5),
    "choice": (0.05, 0.7),
    "quantise_launch_s": (2e-6, 0.5),
    "quantise_row_s": (1e-7, 1.0),
    "quantise_fraction": (0.4, 0.7),
}


def price_gemm(
    op: Gemm,
    parameters: Mapping[str, float],
    spec: GpuSpec,
    peak_flop_per_s: float,
    clock: float = 1.0,
    weight_copies: Size = 0.0,
) -> Price:
    """Price a product of (m, k) by (k, n), each size a number or (points,).

    weight_copies: how many weight matrices a benchmark rotated through; 0 means weights never stay in the L2, which is
    what a model of more than a few layers does.
    """
    sizes = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, float)) for x in (op.m, op.n, op.k, weight_copies)))
    parts = []
    for i in range(0, len(sizes[0]), MAX_CHUNK):
        m, n, k, copies = (size[i : i + MAX_CHUNK, None, None] for size in sizes)
        parts.append(_price(op, m, n, k, copies, parameters, spec, peak_flop_per_s * clock))
    launch, compute, memory = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    shape = np.broadcast_shapes(*(np.shape(x) for x in (op.m, op.n, op.k, weight_copies)))
    return Price(launch.reshape(shape), compute.reshape(shape), memory.reshape(shape))


def _price(
    op: Gemm, m: Floats, n: Floats, k: Floats, copies: Floats, p: Mapping[str, float], spec: GpuSpec, peak: float
) -> tuple[Floats, Floats, Floats]:
    """Seconds of launch, compute and memory (points,); sizes are (points, 1, 1) against (1, tiles, splits)."""
    points, sms = len(m), spec.sm_count
    tile_m, tile_n, split = TILES[None, :, :1], TILES[None, :, 1:], SPLITS[None, None, :]
    tiles = np.ceil(m / tile_m) * np.ceil(n / tile_n) * split
    waves = tiles / sms
    compute = wave_time(waves, p) * _tile_flop(tile_m, tile_n, k / split, p) * sms
    compute = np.maximum(compute, 2.0 * m * n * k) / peak
    shared = np.clip(FULL_TILE / (tile_m * tile_n), 1.0, TILES_PER_SM)
    edges = p["tile_s"] * np.ceil(waves / shared)
    bandwidth = spec.memory_bandwidth_bytes_per_s * p["memory_fraction"]
    in_flight = np.minimum(tiles, sms * shared)
    from_memory, from_l2 = _traffic(op, m, n, k, tile_m * tile_n, copies, p, spec)
    saturated = bandwidth * (1.0 - np.exp(-in_flight * p["saturation"]))
    memory = (from_memory + from_l2 / p["l2_ratio"]) / saturated + p["tile_s"]
    compute = compute + edges
    partial = split * m * n * 2 * bytes_per_element("fp32") / (bandwidth * p["l2_ratio"])
    extra = np.where(split > 1, p["split_s"] + partial, 0.0)
    largest = np.maximum(compute, memory)
    busy = largest * overlapped(compute / largest, memory / largest, p["overlap"])
    busy, memory = above_roof(busy, memory, np.where(copies > 0, 0.0, n * k * bytes_per_element(op.weight_dtype)), spec)
    total = (busy + extra).reshape(points, -1)
    total = np.where(_allowed(op, m, spec), total, np.inf)
    weight = np.exp(-(total / total.min(axis=1, keepdims=True) - 1.0) / p["choice"])
    weight /= weight.sum(axis=1, keepdims=True)
    columns = [
        (weight * np.broadcast_to(x, largest.shape).reshape(points, -1)).sum(axis=1)
        for x in (extra, busy, compute, memory)
    ]
    launch, busy, compute, memory = columns
    scale = busy / np.maximum(compute, memory)  # so that launch + max(compute, memory) is the total
    launch = launch + p["launch_s"] + _quantise(op, m[:, 0, 0], k[:, 0, 0], p, spec)
    return launch, compute * scale, memory * scale


def _allowed(op: Gemm, m: Floats, spec: GpuSpec) -> NDArray[np.bool_]:
    """Which tiles and splits the library has for these rows: (points, tiles x splits)."""
    by_rows = TILES_BY_ROWS.get(spec.architecture) if bytes_per_element(op.dtype) == 1.0 else None
    if by_rows is None:
        return np.ones((1, len(TILES) * len(SPLITS)), dtype=bool)
    limits = np.array([limit for limit, _ in by_rows])
    tiles = np.array([tile for _, tile in by_rows])[np.searchsorted(limits, m[:, 0, 0])]
    same = (TILES[None] == tiles[:, None]).all(axis=2)
    return np.asarray((same[:, :, None] & (SPLITS == 1.0)[None, None]).reshape(len(m), -1))


def _quantise(op: Gemm, m: Floats, k: Floats, p: Mapping[str, float], spec: GpuSpec) -> Floats:
    """Seconds to round (m, k) activations to 8 bits: each row is read, scaled and written."""
    if "quantise_row_s" not in p or op.quantised:
        return np.zeros_like(m)
    moved = m * k * (2.0 + bytes_per_element(op.dtype))
    bandwidth = spec.memory_bandwidth_bytes_per_s * p["quantise_fraction"]
    return p["quantise_launch_s"] + m * p["quantise_row_s"] / spec.sm_count + moved / bandwidth


def overlapped(compute: Floats, memory: Floats, power: float) -> Floats:
    """Time of two overlapping activities, as a share of the longer: the power 1 adds them, a large one hides one."""
    power = max(power, 1.0)
    return np.asarray((compute**power + memory**power) ** (1.0 / power))


def above_roof(busy: Floats, memory: Floats, stored_bytes: Floats, spec: GpuSpec) -> tuple[Floats, Floats]:
    """Seconds, and those of memory, at least of streaming the weights at data-sheet bandwidth, whatever a fit foretells
    beyond the sizes it saw.
    """
    roof = stored_bytes / spec.memory_bandwidth_bytes_per_s
    return np.maximum(busy, roof), np.where(roof > busy, roof, memory)


def wave_time(waves: Floats, p: Mapping[str, float]) -> Floats:
    """Waves as time counts them: partial ones cost up to a whole one."""
    quantised = min(p["wave_quantisation"], 1.0)
    return np.where(waves <= 1.0, waves ** p["idle_boost"], waves + quantised * (np.ceil(waves) - waves))


def _tile_flop(tile_m: Floats, tile_n: Floats, k: Floats, p: Mapping[str, float]) -> Floats:
    """A tile's arithmetic at full rate that takes as long as it does: its own, less what its operand reuse lacks."""
    reuse = tile_m * tile_n / (tile_m + tile_n)
    share = p["compute_fraction"] / (1.0 + (p["tile_half"] / reuse) ** min(p["tile_power"], 12.0))
    return 2.0 * tile_m * tile_n * (np.ceil(k / K_STEP) * K_STEP + p["k_extra"]) / share


def _traffic(
    op: Gemm,
    m: Floats,
    n: Floats,
    k: Floats,
    tile_outputs: Floats,
    copies: Floats,
    p: Mapping[str, float],
    spec: GpuSpec,
) -> tuple[Floats, Floats]:
    """Bytes from memory and bytes from the L2."""
    room, power = spec.l2_bytes * p["l2_share"], min(2.0 * p["l2_power"], 40.0)

    def kept(footprint: Floats) -> Floats:
        return 1.0 / (1.0 + np.minimum(footprint / room, 1e6) ** power)

    width, weight_width = bytes_per_element(op.dtype), bytes_per_element(op.weight_dtype)
    weights, activations, out = weight_width * n * k, width * m * k, op.out_bytes_per_element * m * n
    warm = kept(activations + out)
    warm_weights = np.where(copies > 0, kept(copies * weights + activations + out), 0.0)
    block = np.sqrt(spec.sm_count * tile_outputs)  # side of a square block of one wave's tiles
    rows = np.minimum(m, block * p["raster"])
    columns = np.minimum(n, block * block / rows)
    again = np.maximum(n / columns - 1.0, 0.0) * activations * (1.0 - kept((rows * width + columns * weight_width) * k))
    again = again + np.maximum(m / rows - 1.0, 0.0) * weights * (1.0 - kept(weights))
    cold = weights * (1.0 - warm_weights) + (activations + out) * (1.0 - warm) + again
    return cold, weights * warm_weights + (activations + out) * warm
