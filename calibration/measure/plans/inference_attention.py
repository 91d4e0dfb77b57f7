"""Prefill and decode attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from calibration.measure.plans.target import PlanTarget, rows
from calibration.measure.point import Point
from calibration.measurement_work import work

Heads = tuple[int, int, int]  # query heads, KV heads, width

LLAMA_8B: Heads = (32, 8, 128)
LLAMA_70B_SHARD: Heads = (8, 1, 128)  # of eight ranks
OTHERS: tuple[Heads, ...] = ((64, 8, 128), (40, 8, 128), (32, 32, 128), (16, 2, 128))
RARE: tuple[Heads, ...] = ((16, 16, 64), (32, 8, 64), (16, 8, 256), (32, 4, 128))
MOST_PREFILL_FLOP = 5e13
MOST_CACHE_BYTES = 4e10
WINDOW = 4096
RANDOM_POINTS = 80
PREFILL = "batch new_tokens past_tokens heads kv_heads head_dim window"
DECODE = "batch context_tokens skew heads kv_heads head_dim window"


def prefill(_: PlanTarget) -> Iterator[Point]:
    """Prompts and chunks after a past; then more heads, batches, windows and sizes off the powers of two."""
    whole = [(1, new, 0) for new in (128, 512, 2048, 8192, 32768)]
    chunks = [(1, 512, past) for past in (2048, 8192, 32768)] + [(1, 2048, 8192), (1, 128, 8192)]
    batches = [(batch, new, 0) for batch in (2, 4, 16, 64) for new in (64, 256, 1024, 4096) if batch * new <= 65536]
    lengths = [(1, new, 0) for new in (64, 256, 1024, 4096, 16384)]
    pasts = [(1, new, past) for new in (64, 256, 1024, 2048) for past in (512, 4096, 16384, 65536, 131072)]
    together = [(batch, new, past) for batch in (4, 16) for new in (128, 512) for past in (1024, 8192)]
    odd = [(1, new, past) for new in (100, 500, 1000, 3000, 5000) for past in (0, 700, 10000)]
    random = np.random.default_rng(13)
    scattered = [
        (int(2 ** random.integers(0, 5)), int(np.exp(random.uniform(3, 9))), int(np.exp(random.uniform(0, 10.5))))
        for _ in range(RANDOM_POINTS)
    ]
    yield from _prefill(0, whole + chunks, (LLAMA_8B, LLAMA_70B_SHARD))
    yield from _prefill(1, lengths + batches + pasts + together, (LLAMA_8B,))
    yield from _prefill(1, whole + chunks, OTHERS)
    yield from _prefill(2, lengths + batches + pasts + together, (LLAMA_70B_SHARD, (64, 8, 128)))
    yield from _prefill(2, whole + chunks, RARE)
    yield from _prefill(2, [(1, 8192, 0), (1, 32768, 0), (1, 512, 16384), (4, 8192, 0)], (LLAMA_8B,), window=WINDOW)
    yield from _prefill(2, odd, (LLAMA_8B,))
    yield from _prefill(3, scattered, (LLAMA_8B, LLAMA_70B_SHARD))
    yield from _prefill(3, whole + chunks, (LLAMA_8B,), dtype="fp16")


def decode(_: PlanTarget) -> Iterator[Point]:
    """Batches over contexts; then unequal contexts, more heads, windows and sizes off the powers of two."""
    coarse = [(batch, context, 0.0) for batch in (1, 8, 32, 128, 256) for context in (512, 4096, 32768)]
    fine = [
        (batch, context, 0.0)
        for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        for context in (128, 1024, 2048, 8192, 16384, 65536, 131072)
    ]
    few_skewed = [(32, 4096, skew) for skew in (0.5, 1.0, 2.0)] + [(128, 1024, 1.0), (8, 8192, 1.0)]
    skewed = [
        (batch, context, skew)
        for batch in (4, 16, 64, 256)
        for context in (512, 2048, 8192)
        for skew in (0.3, 0.8, 1.5)
    ]
    random = np.random.default_rng(17)
    scattered = [
        (int(np.exp(random.uniform(0, 6))), int(np.exp(random.uniform(4, 11))), float(random.choice([0.0, 0.0, 1.0])))
        for _ in range(RANDOM_POINTS)
    ]
    yield from _decode(0, coarse, (LLAMA_8B, LLAMA_70B_SHARD))
    yield from _decode(0, few_skewed, (LLAMA_8B,))
    yield from _decode(1, fine, (LLAMA_8B,))
    yield from _decode(1, coarse, OTHERS)
    yield from _decode(1, few_skewed, (LLAMA_70B_SHARD,))
    yield from _decode(2, fine, (LLAMA_70B_SHARD, (64, 8, 128)))
    yield from _decode(2, skewed, (LLAMA_8B,))
    yield from _decode(2, coarse, RARE)
    yield from _decode(2, [(b, c, 0.0) for b in (8, 64) for c in (8192, 32768)], (LLAMA_8B,), window=WINDOW)
    yield from _decode(3, scattered, (LLAMA_8B, LLAMA_70B_SHARD))
    yield from _decode(3, coarse, (LLAMA_8B,), dtype="fp16")


def _prefill(
    level: int,
    sizes: Sequence[tuple[int, int, int]],
    heads: Sequence[Heads],
    window: int = 0,
    dtype: str = "bf16",
) -> Iterator[Point]:
    tuples = ((*size, *head, window) for head in heads for size in sizes)
    for point in rows("attention_prefill", level, PREFILL, tuples, dtype=dtype, kv_dtype=dtype):
        done = work(point.kind, point.values)
        if done is not None and done.flop <= MOST_PREFILL_FLOP:
            yield point


def _decode(
    level: int,
    sizes: Sequence[tuple[int, int, float]],
    heads: Sequence[Heads],
    window: int = 0,
    dtype: str = "bf16",
) -> Iterator[Point]:
    tuples = ((*size, *head, window) for head in heads for size in sizes)
    for point in rows("attention_decode", level, DECODE, tuples, dtype=dtype, kv_dtype=dtype):
        tokens = point.count("batch") * point.count("context_tokens")
        if 4.0 * tokens * point.count("kv_heads") * point.count("head_dim") <= MOST_CACHE_BYTES:
            yield point
