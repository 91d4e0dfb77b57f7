"""Attention of many new tokens a sequence: blocks of query rows walk over tiles of visible keys (FlashAttention-2,
arXiv 2307.08691; FlashAttention-3, arXiv 2407.08608).

A block of `query_tile` rows costs a fixed start and, a tile of keys, matrix arithmetic and the softmax of its scores;
blocks take turns on the multiprocessors. Keys before the chunk make all blocks equal, so whole turns show; a prompt's
own keys make them unequal, and short ones fill the gaps. A long kernel runs into the power limit. Beside it stands a
kernel that appends the new keys and values to the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.dtypes import bytes_per_element
from hardware_models.kernels.attention_decode import WIDTH, key_tile
from hardware_models.price import Price

if TYPE_CHECKING:
    from hardware_models.ops import AttentionPrefill, Size
    from hardware_models.specs import GpuSpec

Floats = NDArray[np.float64]

NORM = 2.0  # exponent at which a block's matrix products hide another's softmax; serves Ada and Blackwell cards alike
STREAM_FRACTION = 0.85  # of data-sheet bandwidth: what copies reach on all these devices; it rarely binds here

# First guesses, and priors (mean, standard deviation of the logarithm) of what one data set may not determine.
PRIOR: dict[str, tuple[float, float]] = {
    "launch_s": (7e-6, 0.7),
    "block_s": (2.5e-6, 0.5),  # start and end of a block of query rows
    "compute_fraction": (0.95, 0.03),  # of the matrix peak, apart from the softmax
    "softmax_clocks": (0.1, 0.7),  # of a multiprocessor, a score
    "operand_clocks": (0.4, 0.7),  # and to load its key and value from shared memory, at head dimension 128
    "tail_fraction": (0.4, 0.5),  # of the longest block, by which the last multiprocessor ends after the mean
    "lone_fraction": (1.0, 0.2),  # speed of a block alone on its multiprocessor, over that with as many as fit
    "token_s": (0.5e-9, 0.7),  # a block of the appending kernel, one a new token
    "append_fraction": (0.7, 0.3),  # of bandwidth, writing keys and values to the cache's pages
    "exposed_fraction": (0.3, 0.7),  # of the traffic of queries and results that arithmetic does not hide
    "throttle_fraction": (0.1, 0.5),  # more time, once the power limit lowers the clock
    "throttle_after_s": (5e-3, 0.5),  # arithmetic at full clock before that
    "cache_gain": (2.5, 0.4),  # last-level cache over memory bandwidth, less 1
    "cache_fraction": (0.6, 0.3),  # of the last-level cache's size, which keeps what the kernel before wrote
}
START: dict[str, float] = {name: mean for name, (mean, _) in PRIOR.items()}

# What the kernel does, by its source code; not fitted.
FLASH_ATTENTION_2 = {"packed_heads": 1.0, "query_tile": 64.0}  # on paged KV (flash_fwd_splitkv of vLLM's fork)
FLASH_ATTENTION_3 = {"packed_heads": 64.0, "query_tile": 128.0}  # on Hopper, query heads of a KV head packed

FLASH_INFER = {"packed_heads": 64.0, "query_tile": 128.0}  # query heads of a KV head packed, on any architecture


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds that grow as constant_s + s_per_pair x pairs + s_per_kv_token x kv_tokens."""

    constant_s: Floats
    s_per_pair: Floats
    s_per_kv_token: Floats

    def at(self, pairs: Floats, kv_tokens: Floats) -> Floats:
        """Its value."""
        return np.asarray(self.constant_s + self.s_per_pair * pairs + self.s_per_kv_token * kv_tokens)


@dataclass(frozen=True, slots=True)
class PrefillLines:
    """Cost for fixed queries and sequences: launch_s + the largest of all lines."""

    launch_s: Floats
    compute: tuple[Line, ...]
    memory: tuple[Line, ...]

    def slowed(self, factor: float) -> PrefillLines:
        """With arithmetic so many times slower."""
        slower = (Line(factor * i.constant_s, factor * i.s_per_pair, factor * i.s_per_kv_token) for i in self.compute)
        return PrefillLines(self.launch_s, tuple(slower), self.memory)

    def price(self, pairs: Floats, kv_tokens: Floats) -> Price:
        """At so many pairs and visible keys."""
        compute = np.maximum.reduce([line.at(pairs, kv_tokens) for line in self.compute])
        memory = np.maximum.reduce([line.at(pairs, kv_tokens) for line in self.memory])
        shape = np.broadcast_shapes(np.shape(compute), np.shape(memory))
        return Price(np.broadcast_to(self.launch_s, shape), compute, memory)


def prefill_lines(
    op: AttentionPrefill, parameters: Mapping[str, float], spec: GpuSpec, cache_resident: bool = False
) -> PrefillLines:
    """One layer's prompt attention as lines in pairs and keys, with no negative slope; the op's other sizes broadcast.

    op: its sequences are taken as equal; its pairs and kv_tokens are not looked at. parameters: those of `PRIOR`,
    packed_heads (query heads of a KV head in one block, at most), query_tile (rows of a block).
    cache_resident: whether the last-level cache may still hold what the kernel before wrote, as in benchmarks; if not,
    no price is below the data sheet's roofline. Raises KeyError for a parameter that is missing.
    """
    p, bandwidth, dtype = parameters, spec.memory_bandwidth_bytes_per_s, op.dtype
    queries, sequences, heads, kv_heads, kv_width, width = (
        np.asarray(x, float)
        for x in (op.queries, op.sequences, op.heads, op.kv_heads, op.kv_width, op.qk_dim + op.v_dim)
    )
    tensor_bytes = queries * heads * width * bytes_per_element(dtype)
    append_bytes = queries * kv_width * (bytes_per_element(dtype) + bytes_per_element(op.kv_dtype))
    missed: Floats | float = 1.0
    if cache_resident:
        touched = (tensor_bytes + append_bytes) / (spec.l2_bytes * p["cache_fraction"])
        hit = np.clip(2.0 - touched, 0.0, 1.0)
        missed = 1.0 - hit + hit / (1.0 + p["cache_gain"])
    exposed = append_bytes / p["append_fraction"] + p["exposed_fraction"] * tensor_bytes
    launch = np.asarray(p["launch_s"] + queries * p["token_s"] + exposed * missed / bandwidth)
    stream = missed / (bandwidth * STREAM_FRACTION)
    kv_token_s = np.asarray(kv_width * bytes_per_element(op.kv_dtype) * stream)
    memory = Line(tensor_bytes * stream, np.zeros(()), kv_token_s)

    packed = np.minimum(heads / kv_heads, p["packed_heads"])
    compute = _block_lines(queries, sequences, heads, packed, op.qk_dim, width, dtype, p, spec, op.window)
    if not cache_resident:
        roof = 2.0 * heads * width / spec.peak_flop_per_s[dtype]
        compute = (*compute, Line(np.zeros(()), np.asarray(roof), np.zeros(())))
    return PrefillLines(launch, compute, (memory,))


def _block_lines(
    queries: Floats,
    sequences: Floats,
    heads: Floats,
    packed: Floats,
    qk_dim: Size,
    width: Floats,
    dtype: str,
    p: Mapping[str, float],
    spec: GpuSpec,
    window: int,
) -> tuple[Line, ...]:
    """Blocks on multiprocessors: even shares of all work, the same under the power limit, and the longest block."""
    sms, tile = float(spec.sm_count), p["query_tile"]
    rows = queries / sequences * packed
    tiles = np.ceil(rows / tile)
    blocks = sequences * heads / packed * tiles
    matrix_s = 2.0 * width * sms / (spec.peak_flop_per_s[dtype] * p["compute_fraction"])
    vector_s = (p["softmax_clocks"] + p["operand_clocks"] * width / WIDTH) / spec.boost_clock_hz
    pair_s = (matrix_s**NORM + vector_s**NORM) ** (1.0 / NORM)  # of one score, on one multiprocessor
    key_s = tile * pair_s  # of a block, a key
    reach = np.minimum(queries / sequences, window + tile) if window else queries / sequences
    diagonal = np.maximum(tile, key_tile(qk_dim)) / 2.0 * (2 if window else 1)  # keys a block walks and masks
    idle = np.ceil(blocks / sms) * sms - blocks  # blocks the last turn lacks; each would walk the keys before the chunk
    start_s = blocks * (diagonal * key_s + p["block_s"]) + idle * (p["block_s"] - queries / sequences * key_s)
    even = Line(
        start_s / sms + p["tail_fraction"] * reach * key_s,
        heads * (tiles * tile / rows) * pair_s / sms,
        idle * key_s / sequences / sms,
    )
    slower = 1.0 + p["throttle_fraction"]
    throttled = Line(
        slower * even.constant_s - p["throttle_fraction"] * p["throttle_after_s"],
        slower * even.s_per_pair,
        slower * even.s_per_kv_token,
    )
    lone = p["lone_fraction"]
    walk = reach * key_s if window else np.zeros(())
    per_key = np.zeros(()) if window else key_s / sequences
    longest = Line(np.asarray((p["block_s"] + walk) / lone), np.zeros(()), np.asarray(per_key / lone))
    return even, throttled, longest
