"""Matrix products and elementwise kernels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from calibration.measure.plans.models import shape_of
from calibration.measure.plans.target import PlanTarget, grid, rows
from calibration.measure.point import Point

COARSE_M = (1, 8, 64, 512, 4096)
FINE_M = (2, 4, 16, 32, 128, 256, 1024, 2048, 8192)
EDGE_M = tuple(m + step for m in (64, 128, 192, 256, 384, 512) for step in (-1, 0, 1))
SKINNY_M = (3, 5, 6, 7, 9, 12, 15, 17, 20, 24, 28, 33, 40, 48, 56, 63)
FEW = ((4096, 4096), (28672, 4096), (4096, 14336), (8192, 8192))
MORE = (*FEW, (6144, 4096), (1280, 8192), (8192, 1024), (7168, 8192), (8192, 3584), (57344, 8192))
OTHER_DTYPES = ("fp16", "int8", "tf32")
TILES = ((128, 128), (128, 256), (256, 128), (64, 128))  # output tiles of common kernels, for the edges of waves
OFF_MODEL = 240  # random shapes
LARGEST_FLOP = 2e13  # some 30 ms of the fastest devices


def gemm(target: PlanTarget) -> Iterator[Point]:
    """Shapes of models over m; then all dtypes; then edges of tiles and waves, skinny and off-model shapes."""
    dense = _unique(("llama-3-8b", 1), ("llama-3-70b", 8), ("llama-3-70b", 1), ("qwen2.5-32b", 1), ("mixtral-8x7b", 1))
    sharded = _unique(
        ("llama-3-8b", 2), ("llama-3-70b", 2), ("llama-3-70b", 4), ("qwen2.5-32b", 4), ("mixtral-8x7b", 4)
    )
    head = (shape_of("llama-3-8b").vocabulary, shape_of("llama-3-8b").hidden)
    points = [
        *_gemm(0, COARSE_M, [*dense, head], "bf16"),
        *_gemm(0, COARSE_M, FEW, "fp8"),
        *_gemm(1, FINE_M, dense, "bf16"),
        *_gemm(1, (*COARSE_M, 16, 256, 2048), MORE, "fp8"),
        *(point for dtype in OTHER_DTYPES for point in _gemm(1, (*COARSE_M, 32, 256, 2048), FEW, dtype)),
        *_gemm(2, EDGE_M, FEW, "bf16"),
        *_waves(2, target.sm_count),
        *_gemm(2, SKINNY_M, MORE, "bf16"),
        *_gemm(2, (*COARSE_M, 32, 256, 1024), sharded, "bf16"),
        *_gemm(2, (1, 16, 64, 256, 1024), [head, (152064, 5120), (128256, 8192)], "bf16"),
        *_off_model(3),
        *_gemm(3, (*FINE_M, *EDGE_M, *SKINNY_M), FEW, "fp8"),
        *_gemm(3, (96, 160, 320, 640, 768, 1536, 3072, 6144, 16384), MORE, "bf16"),
    ]
    for point in points:
        if 2.0 * point.count("m") * point.count("n") * point.count("k") <= LARGEST_FLOP:
            yield point


def _unique(*models: tuple[str, int]) -> list[tuple[int, int]]:
    """(n, k) of models on some ranks, each once."""
    return list(dict.fromkeys(shape for name, ranks in models for shape in shape_of(name).projections(ranks)))


def _gemm(level: int, ms: Iterable[int], shapes: Iterable[tuple[int, int]], dtype: str) -> Iterator[Point]:
    tuples = ((m, n, k) for n, k in shapes for m in ms)
    return rows("gemm", level, "m n k", tuples, dtype=dtype, weight_dtype=dtype)


def _waves(level: int, sm_count: int) -> Iterator[Point]:
    """The last m whose tiles fill whole waves of the multiprocessors, and one row of tiles more."""
    for n, k in FEW[:3]:
        for tile_m, tile_n in TILES:
            for waves in (1, 2, 3, 4):
                tile_rows = waves * sm_count // -(-n // tile_n)
                edges = [tile_rows * tile_m + more for more in (0, 1, tile_m)]
                yield from _gemm(level, [m for m in edges if m > 0], [(n, k)], "bf16")


def _off_model(level: int) -> Iterator[Point]:
    """Sizes that no model has: log-uniform, n and k multiples of 16 (as fp8 asks) but of no higher power of two."""
    random = np.random.default_rng(11)
    for index in range(OFF_MODEL):
        m = int(np.exp(random.uniform(0.0, np.log(16384))))
        n, k = (16 * int(np.exp(random.uniform(np.log(16), np.log(1536)))) for _ in range(2))
        yield from _gemm(level, [m], [(n, k)], "fp8" if index % 3 == 2 else "bf16")


def elementwise(_: PlanTarget) -> Iterator[Point]:
    """Kernels at the widths of models over rows."""
    for level, counts in ((0, (1, 256, 4096)), (1, (16, 64, 1024, 16384)), (2, (4, 32, 128, 512, 2048, 8192))):
        for width in (4096, 8192) if level < 2 else (2048, 5120):
            for name, reads, writes in (
                ("rmsnorm", 1, 1),
                ("add_rmsnorm", 2, 2),
                ("layernorm", 1, 1),
                ("add", 2, 1),
                ("rope", 1, 1),
                ("embedding", 1, 1),
            ):
                yield from _elementwise(level, name, counts, width, reads, writes)
        for width in (14336, 28672) if level < 2 else (3584, 27648):
            yield from _elementwise(level, "silu_mul", counts, width, 2, 1)
            yield from _elementwise(level, "gelu", counts, width, 1, 1)
        yield from _elementwise(level, "kv_copy", counts, 2048, 1, 1)
        vocabulary_rows = [count for count in counts if count <= 1024]
        yield from _elementwise(level, "sampling", vocabulary_rows, 128256, 2, 1, "fp32")


def _elementwise(
    level: int, name: str, counts: Iterable[int], width: int, reads: float, writes: float, dtype: str = "bf16"
) -> Iterator[Point]:
    return grid(
        "elementwise", level, name=name, rows=tuple(counts), width=width, reads=reads, writes=writes, dtype=dtype
    )
