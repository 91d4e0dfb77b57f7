"""Attention of one new token a sequence: blocks stream the keys and values of one KV head of one sequence, split along
the context when sequences and heads do not fill the device (flash-decoding, Dao et al., 2023, after FlashAttention-2,
arXiv 2307.08691).

Launch, then whichever is slower: streaming KV from memory, with blocks that wait for their first keys beside it, or
arithmetic on whole matrix tiles. Query heads that share a KV head share a block where the kernel packs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.dtypes import bytes_per_element
from hardware_models.price import Price

if TYPE_CHECKING:
    from hardware_models.ops import AttentionDecode, Size
    from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]

MATRIX_ROWS = 16  # of the matrix instruction: a block computes whole multiples
KEY_TILE_ELEMENTS = 128 * 128  # keys of a block's step times their width
KEY_TILE_RANGE = (64.0, 256.0)
WIDTH = 256.0  # elements of a key and a value at head dimension 128
FILLED = 0.8  # share of the multiprocessors above which FlashAttention does not split (num_splits_heuristic)
HIDDEN_WAVES = 0.3  # of blocks, whose wait is part of the launch (A100, H100 and L40S agree)
ROUNDING = 1e-9  # of waves, by which whole ones may miss
NORM = 1.5  # exponent at which blocks' waits and streaming overlap: 1 adds them, infinity hides the lesser

# First guesses, and priors (mean, standard deviation of the logarithm) of what one data set may not determine.
PRIOR: dict[str, tuple[float, float]] = {
    "launch_s": (9e-6, 0.7),  # the kernel, and the one that appends the new token to the cache
    "pack_s": (3e-6, 0.7),  # regrouping queries by KV head, where several of each meet in a batch
    "combine_s": (2e-6, 0.7),  # the second kernel of a split context
    "split_s": (0.15e-6, 0.7),  # and its time a split
    "block_s": (3e-6, 0.3),  # a block's wait for its query and first keys
    "width_s": (0.7e-6, 0.7),  # and more of it a WIDTH of them
    "query_passes": (2.0, 0.5),  # times queries and results move besides once each
    "memory_fraction": (0.82, 0.05),  # of data-sheet bandwidth, all multiprocessors streaming
    "lone_gain": (1.0, 0.3),  # by how much of its fair share of that a lone block streams faster
    "compute_fraction": (0.5, 0.3),  # of the matrix peak
    "cache_gain": (2.5, 0.4),  # last-level cache over memory bandwidth, less 1
    "cache_fraction": (0.6, 0.3),  # of the last-level cache's size, which keeps KV for another reader
}
START: dict[str, float] = {name: mean for name, (mean, _) in PRIOR.items()}

# What the kernel does, by its source code; not fitted.
PACKED = {"packed_heads": 64.0, "max_splits": 128.0}  # FlashAttention where every query is one token
LATENT = {"packed_heads": 128.0, "max_splits": 128.0}  # FlashMLA: a pair of blocks shares the keys of 128 heads
LATENT_TRITON = {"packed_heads": 16.0, "max_splits": 128.0}  # vLLM's Triton kernel (BLOCK_H)
UNPACKED = {"packed_heads": 1.0, "max_splits": 1.0}  # FlashAttention-2 beside a prompt's chunk, or with a window


def price_decode(
    op: AttentionDecode, parameters: Mapping[str, float], spec: GpuSpec, cache_resident: bool = False
) -> Price:
    """Price one layer's decode attention; the op's sizes broadcast, and are those of one device.

    op: one query a sequence; kv_tokens are the keys they see in all (a window caps it), as if all saw equally many.
    parameters: those of `PRIOR`, packed_heads (query heads of a KV head in one block, at most), max_splits (parts of a
    context, at most).
    cache_resident: whether the last-level cache may still hold these keys, as when a benchmark repeats one kernel; in
    a model, other layers have replaced them, and no price is below the data sheet's roofline.
    Nondecreasing in kv_tokens for fixed sequences. Raises KeyError for a parameter that is missing.
    """
    p, bandwidth = parameters, spec.memory_bandwidth_bytes_per_s
    sequences, kv_tokens, heads, kv_heads, qk_dim, width = (
        np.asarray(x, float) for x in (op.queries, op.kv_tokens, op.heads, op.kv_heads, op.qk_dim, op.qk_dim + op.v_dim)
    )
    group = heads / kv_heads
    packed = np.minimum(group, p["packed_heads"])
    copies = np.ceil(group / packed)  # blocks that read the same keys
    sms, units = float(spec.sm_count), sequences * copies * kv_heads
    splits = _splits(units, kv_tokens / sequences / key_tile(qk_dim), sms, p["max_splits"])
    waves = units * splits / sms
    launch = _launch(p, splits, regroups=(packed > 1) & (kv_heads > 1) & (sequences > 1))
    kv_bytes = np.asarray(op.stored_bytes, float)
    query_bytes = sequences * heads * width * bytes_per_element(op.dtype)
    kept_bytes = spec.l2_bytes * p["cache_fraction"]
    missed = _missed(kv_bytes + query_bytes, kept_bytes, p["cache_gain"]) if cache_resident else np.ones(())
    again = _read_again(copies, sequences / sms, kv_bytes / kv_heads, kept_bytes, p["cache_gain"])
    traffic = kv_bytes * (missed + again) * _spread(waves, p["lone_gain"]) + query_bytes * missed
    wait = (p["block_s"] + p["width_s"] * width / WIDTH) * np.maximum(waves - HIDDEN_WAVES, 0.0)
    streamed = bandwidth * p["memory_fraction"]
    wait = wait + p["query_passes"] * query_bytes * missed / streamed
    memory = ((traffic / streamed) ** NORM + wait**NORM) ** (1.0 / NORM)
    peak, flop = spec.peak_flop_per_s[op.dtype], 2.0 * kv_tokens * heads * width
    tiles = np.ceil(packed / MATRIX_ROWS) * MATRIX_ROWS / packed  # whole ones, over what they hold
    compute = flop * tiles * np.maximum(1.0 / waves, 1.0) / (peak * p["compute_fraction"])
    if not cache_resident:
        memory = np.maximum(memory, (kv_bytes + query_bytes) / bandwidth)
        compute = np.maximum(compute, flop / peak)
    return Price(np.broadcast_to(launch, np.shape(memory)), compute, memory)


def key_tile(qk_dim: Size) -> Floats:
    """Keys a block reads at once: fewer wide ones fit its shared memory."""
    return np.clip(KEY_TILE_ELEMENTS / np.asarray(qk_dim, float), *KEY_TILE_RANGE)


def _launch(p: Mapping[str, float], splits: Floats, regroups: NDArray[np.bool_]) -> Floats:
    """Kernels beside or after the one that streams, and its own start."""
    return np.asarray(
        p["launch_s"] + (splits > 1.0) * (p["combine_s"] + p["split_s"] * splits) + p["pack_s"] * regroups
    )


def _splits(units: Floats, tiles: Floats, sms: float, limit: float) -> Floats:
    """Parts a context is cut into: as many as fill the multiprocessors, each at least one tile of keys."""
    wanted = np.where(units >= FILLED * sms, 1.0, sms / units)
    return np.asarray(np.clip(np.minimum(wanted, tiles), 1.0, limit))


def _spread(waves: Floats, lone_gain: float) -> Floats:
    """Time over that of equal streams which fill whole waves: the blocks of a partly filled wave stream faster each,
    up to 1 + `lone_gain` times, but not in all.
    """
    whole = np.floor(waves + ROUNDING)
    rest = np.maximum(waves - whole, 0.0)
    last = np.where(rest > ROUNDING, np.maximum(rest, 1.0 / (1.0 + lone_gain)), 0.0)
    return np.asarray((whole + last) / waves)


def _read_again(copies: Floats, turns: Floats, head_bytes: Floats, kept_bytes: float, gain: float) -> Floats:
    """Traffic of blocks that read the same keys, over that of the first.

    Blocks run head by head, `turns` turns of the multiprocessors each: those of a group that run at once share what
    they read in the cache; a later one finds what the other sequences' blocks of its head left there.
    """
    passes = np.clip(copies * turns, 1.0, copies)
    later = (passes - 1.0) * _missed(head_bytes, kept_bytes, gain)
    return np.asarray(later + (copies - passes) / (1.0 + gain))


def _missed(touched_bytes: Floats, kept_bytes: float, gain: float) -> Floats:
    """Time to read again what was touched, over that from memory: all in the cache up to `kept_bytes`, none from
    twice as much.
    """
    hit = np.clip(2.0 - touched_bytes / kept_bytes, 0.0, 1.0)
    return np.asarray(1.0 - hit + hit / (1.0 + gain))
