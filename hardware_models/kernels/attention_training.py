"""Attention of a training step, forward or backward, by implementation: blocks of query rows walk over tiles of keys,
and backward blocks of keys over tiles of queries (FlashAttention, arXiv 2205.14135; -2, 2307.08691; -3, 2407.08608).

A block costs a fixed start and, a score, matrix arithmetic (two products forward, five backward) beside the softmax
and the loads of operands, which grow with the head dimension as tiles narrow. Without a mask blocks are equal and take
whole turns on the multiprocessors; a causal one makes them unequal: each walks half a tile past its diagonal, and the
last multiprocessor ends after the mean. With a sliding window a block walks over the tiles that it touches. Backward
stand beside the kernel two passes: one sums gradients times outputs a row, one turns the queries' gradients, added up
in fp32, to the layer's format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import ImpossibleError, UnknownNameError
from hardware_models.kernels.attention_decode import WIDTH
from hardware_models.kernels.attention_prefill import NORM, STREAM_FRACTION
from hardware_models.price import Price

if TYPE_CHECKING:
    from hardware_models.ops import AttentionTraining
    from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]

IMPLEMENTATIONS = ("flash1", "flash2", "flash3", "cudnn", "triton", "xformers")
TILE = 128.0  # rows or keys of a block; keys or rows it takes at once
TALL_TILE, NARROW = 192.0, 64.0  # rows of FlashAttention-3's forward blocks up to this head dimension
BACKWARD_KERNELS = 3.0  # sums of a row, the kernel itself, the queries' gradients
ACCUMULATOR_BYTES = 4.0  # of a query's gradient while blocks add to it
ROW_BYTES = 4.0  # of a row's sum
STEEPEST = 6.0  # power of the head dimension that operands can grow with

# First guesses, and priors (mean, standard deviation of the logarithm) of what few points may not determine.
PRIOR: dict[str, tuple[float, float]] = {
    "launch_s": (7e-6, 0.4),  # a kernel
    "block_s": (2.5e-6, 0.5),  # start and end of a block, at head dimension 128: it loads queries and stores outputs
    "backward_block_s": (4e-6, 0.5),  # which loads and stores twice as much
    "compute_fraction": (0.95, 0.03),  # of the matrix peak, apart from the softmax
    "softmax_clocks": (0.1, 0.7),  # of a multiprocessor, a score
    "operand_clocks": (0.1, 0.7),  # and to load its operands from shared memory, at head dimension 128
    "operand_power": (1.5, 0.3),  # of the head dimension they grow with
    "backward_work": (1.2, 0.15),  # softmax and loads a matrix product backward, over those forward
    "mask_work": (1.1, 0.1),  # softmax and loads of a score under a causal mask, over those without
    "tail_fraction": (0.3, 0.5),  # of the longest block, by which a causal kernel's last multiprocessor ends late
    "pass_fraction": (1.0, 0.3),  # of the bytes of the passes beside the kernel that memory serves
}
START: dict[str, float] = {name: mean for name, (mean, _) in PRIOR.items()}


def training_key(op: AttentionTraining, architecture: str, dtype: str) -> str:
    """The fit of an operator: its format `dtype` and implementation.

    Raises UnknownNameError for an implementation nobody wrote, ImpossibleError for one that does not run there.
    """
    if op.implementation not in IMPLEMENTATIONS:
        raise UnknownNameError("training.attention", op.implementation, IMPLEMENTATIONS)
    if op.implementation == "flash3" and architecture != "hopper":
        raise ImpossibleError(
            f"training.attention = 'flash3': is written for Hopper's instructions, not for {architecture}; take"
            " flash2 or cudnn"
        )
    return f"{dtype}/{op.implementation}"


def price_attention_training(
    op: AttentionTraining, parameters: Mapping[str, float], spec: GpuSpec, clock: float = 1.0
) -> Price:
    """Price one layer's attention, forward or backward, at a core clock given as a fraction of boost.

    parameters: those of `PRIOR`. No price is below the data sheet's roofline. Raises KeyError for a missing parameter.
    """
    p, bandwidth = parameters, spec.memory_bandwidth_bytes_per_s
    memory = np.asarray(op.moved_bytes, float) / (bandwidth * STREAM_FRACTION)
    least = np.asarray(op.flop, float) / spec.peak_flop_per_s[op.dtype]
    compute = np.maximum(_blocks_s(op, p, spec), least) / clock
    if op.backward:
        launch = BACKWARD_KERNELS * p["launch_s"] + p["pass_fraction"] * _pass_bytes(op) / bandwidth
    else:
        launch = np.asarray(p["launch_s"])
    shape = np.broadcast_shapes(np.shape(launch), np.shape(compute), np.shape(memory))
    return Price(*(np.array(np.broadcast_to(part, shape)) for part in (launch, compute, memory)))


def _blocks_s(op: AttentionTraining, p: Mapping[str, float], spec: GpuSpec) -> Floats:
    """Until the last multiprocessor has walked the last block."""
    tall = _rows(op)
    queries = np.ceil(np.asarray(op.queries, float) / tall) * tall
    keys = np.ceil(np.asarray(op.keys, float) / TILE) * TILE
    rows, reach = (keys, queries) if op.backward else (queries, keys)
    start_s = p["backward_block_s" if op.backward else "block_s"] * _width(op) / WIDTH
    score_s = _score_s(op, p, spec)
    heads = np.asarray(op.batch, float) * np.asarray(op.heads, float)  # of all sequences
    turns = heads * rows / tall / spec.sm_count
    longest = start_s + tall * np.minimum(reach, _most(op, tall, reach)) * score_s
    whole = np.ceil(turns) * longest
    if not op.causal:
        return np.asarray(whole)
    walked = _walked(op, tall, keys)
    even = turns * start_s + heads * walked * score_s / spec.sm_count
    return np.asarray(np.minimum(whole, np.maximum(even + p["tail_fraction"] * longest, longest)))


def _walked(op: AttentionTraining, tall: Floats, keys: Floats) -> Floats:
    """Scores of one head and sequence in tiles that the mask leaves anything of; keys: in whole tiles."""
    short = np.minimum(np.asarray(op.queries, float), np.asarray(op.keys, float))
    before = np.asarray(op.keys, float) - short + tall % TILE / 2.0  # keys; and the mean to the next whole tile
    blocks = np.ceil(short / tall)  # of rows; the last one sees all keys
    most = _most(op, tall, keys + before + tall * blocks)
    growing = np.clip(np.floor((most - before) / tall), 0.0, blocks - 1.0)  # blocks whose window begins before the keys
    walked = growing * (before + tall * (growing + 1.0) / 2.0) + (blocks - 1.0 - growing) * most
    return np.asarray(tall * (np.minimum(keys, most) + walked))


def _most(op: AttentionTraining, tall: Floats, everything: Floats) -> Floats:
    """Keys in the tiles that one block's windows touch; everything: where there is none."""
    touched = np.ceil((np.asarray(op.window, float) - 1.0) / TILE) * TILE + tall
    return np.asarray(np.where(op.window, touched, everything))


def _rows(op: AttentionTraining) -> Floats:
    """Rows of a block, by the implementations' source code."""
    tall = op.implementation == "flash3" and not op.backward
    return np.asarray(np.where(tall & (np.asarray(op.qk_dim, float) <= NARROW), TALL_TILE, TILE))


def _score_s(op: AttentionTraining, p: Mapping[str, float], spec: GpuSpec) -> Floats:
    """Seconds of one score on one multiprocessor."""
    peak = spec.peak_flop_per_s[op.dtype] * p["compute_fraction"]
    matrix_s = np.asarray(op.flop_per_score, float) * spec.sm_count / peak
    clocks = p["softmax_clocks"] + p["operand_clocks"] * (_width(op) / WIDTH) ** min(p["operand_power"], STEEPEST)
    more = (2.5 * p["backward_work"] if op.backward else 1.0) * (p["mask_work"] if op.causal else 1.0)
    vector_s = more * clocks / spec.boost_clock_hz
    return np.asarray((matrix_s**NORM + vector_s**NORM) ** (1.0 / NORM))


def _width(op: AttentionTraining) -> Floats:
    """Elements of a query and its output, or of a key and its value."""
    return np.asarray(np.asarray(op.qk_dim, float) + np.asarray(op.v_dim, float))


def _pass_bytes(op: AttentionTraining) -> Floats:
    """Of the passes beside the backward kernel: sums of a row, clearing and turning the queries' gradients, and, where
    heads share keys, adding up what each gives them.
    """
    element, heads, kv_heads = bytes_per_element(op.dtype), np.asarray(op.heads, float), np.asarray(op.kv_heads, float)
    qk_dim, v_dim = np.asarray(op.qk_dim, float), np.asarray(op.v_dim, float)
    row = 2.0 * v_dim * element + ROW_BYTES + qk_dim * (2.0 * ACCUMULATOR_BYTES + element)
    shared = np.where(heads > kv_heads, (2.0 * heads) * (qk_dim + v_dim) * element, 0.0)
    return np.asarray(op.batch * (op.queries * heads * row + op.keys * shared))
