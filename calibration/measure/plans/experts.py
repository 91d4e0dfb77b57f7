"""Mixture-of-experts layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from calibration.measure.plans.models import shape_of
from calibration.measure.plans.target import PlanTarget, rows
from calibration.measure.point import Point

Layer = tuple[int, int, int, int]  # hidden, intermediate, experts, top_k

COARSE = (1, 8, 64, 512, 4096)
FINE = (2, 4, 16, 32, 128, 256, 1024, 2048, 8192)


def moe(_: PlanTarget) -> Iterator[Point]:
    """Few wide experts and many narrow ones over tokens; then skew, fp8 and shards."""
    mixtral, qwen, deepseek = (_layer(name) for name in ("mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3"))
    shard = (mixtral[0], mixtral[1] // 8, *mixtral[2:])
    rank = (deepseek[0], deepseek[1], deepseek[2] // 8, deepseek[3] // 8)  # experts of one of eight ranks
    yield from _moe(0, COARSE, (mixtral, qwen))
    yield from _moe(1, COARSE, (mixtral, qwen), dtype="fp8")
    yield from _moe(1, (64, 512, 4096), (mixtral, qwen), skew=(0.5, 1.0))
    yield from _moe(1, FINE, (mixtral, qwen))
    yield from _moe(2, COARSE, (shard, rank))
    yield from _moe(2, (8, 32, 128, 1024), (mixtral, qwen), skew=(0.3, 0.8, 1.5))
    yield from _moe(3, FINE, (shard, rank))
    yield from _moe(3, FINE, (mixtral, qwen), dtype="fp8")
    yield from _moe(3, (16384, 3, 48, 96, 192, 384, 768), (mixtral, qwen))


def _layer(name: str) -> Layer:
    shape = shape_of(name)
    return shape.hidden, shape.intermediate, shape.experts, shape.top_k


def _moe(
    level: int, tokens: Sequence[int], layers: Sequence[Layer], skew: Sequence[float] = (0.0,), dtype: str = "bf16"
) -> Iterator[Point]:
    names = "tokens hidden intermediate experts top_k skew"
    tuples = ((count, *layer, share) for layer in layers for share in skew for count in tokens)
    return rows("moe", level, names, tuples, dtype=dtype, weight_dtype=dtype)
