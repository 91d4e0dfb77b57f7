"""Points that a CPU measures in moments: the same kinds at sizes that keep the code honest everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from calibration.measure.plans.target import PlanTarget, grid
from calibration.measure.point import Point
from calibration.measurement_kinds import COLLECTIVES

KIB, MIB = 2**10, 2**20


def gemm(_: PlanTarget) -> Iterator[Point]:
    """Square and skinny products in fp32 and bf16."""
    for dtype in ("fp32", "bf16"):
        sizes = {"dtype": dtype, "weight_dtype": dtype}
        yield from grid("gemm", 0, m=(1, 64, 256), n=512, k=(512, 1024), **sizes)
        yield from grid("gemm", 1, m=(2, 16, 65, 512), n=(512, 1000), k=512, **sizes)


def prefill(_: PlanTarget) -> Iterator[Point]:
    """Prompts and chunks of a small model."""
    heads = {"heads": 8, "kv_heads": 2, "head_dim": 64, "dtype": "bf16", "kv_dtype": "bf16", "window": 0}
    yield from grid("attention_prefill", 0, batch=1, new_tokens=(64, 256), past_tokens=(0, 128), **heads)
    yield from grid("attention_prefill", 1, batch=2, new_tokens=128, past_tokens=(0, 512), **heads)


def decode(_: PlanTarget) -> Iterator[Point]:
    """Small batches, equal and unequal."""
    heads = {"heads": 8, "kv_heads": 2, "head_dim": 64, "dtype": "bf16", "kv_dtype": "bf16", "window": 0}
    yield from grid("attention_decode", 0, batch=(1, 8), context_tokens=(128, 1024), skew=0.0, **heads)
    yield from grid("attention_decode", 1, batch=8, context_tokens=256, skew=1.0, **heads)


def moe(_: PlanTarget) -> Iterator[Point]:
    """Eight narrow experts."""
    sizes = {"hidden": 256, "intermediate": 512, "experts": 8, "top_k": 2, "dtype": "bf16", "weight_dtype": "bf16"}
    yield from grid("moe", 0, tokens=(1, 64), skew=0.0, **sizes)
    yield from grid("moe", 1, tokens=64, skew=1.0, **sizes)


def elementwise(_: PlanTarget) -> Iterator[Point]:
    """Every kernel at one small size."""
    for name, width, reads, writes in (
        ("rmsnorm", 1024, 1, 1),
        ("add_rmsnorm", 1024, 2, 2),
        ("layernorm", 1024, 1, 1),
        ("add", 1024, 2, 1),
        ("rope", 1024, 1, 1),
        ("embedding", 1024, 1, 1),
        ("silu_mul", 2048, 2, 1),
        ("gelu", 2048, 1, 1),
        ("kv_copy", 1024, 1, 1),
    ):
        shape = {"name": name, "width": width, "reads": reads, "writes": writes, "dtype": "bf16"}
        yield from grid("elementwise", 0, rows=64, **shape)
    yield from grid("elementwise", 0, name="sampling", rows=4, width=32000, reads=2, writes=1, dtype="fp32")


def memory(_: PlanTarget) -> Iterator[Point]:
    """In and beyond the caches."""
    yield from grid("memory", 0, name=("read", "write", "copy"), bytes=(MIB, 64 * MIB))


def host(_: PlanTarget) -> Iterator[Point]:
    """An operator's cost in Python."""
    yield from grid("host", 0, name="python_op", count=(1, 100))


def collective(target: PlanTarget) -> Iterator[Point]:
    """Two processes of this machine."""
    fixed = {"dtype": "fp32", "backend": target.backend, "link": target.link}
    for ranks in target.ranks:
        yield from grid("collective", 2, kind=COLLECTIVES, ranks=ranks, payload_bytes=(4 * KIB, MIB), **fixed)


def none(_: PlanTarget) -> Iterator[Point]:
    """No point: the kind needs a GPU."""
    yield from ()


PLANS: dict[str, Callable[[PlanTarget], Iterator[Point]]] = {
    "gemm": gemm,
    "attention_prefill": prefill,
    "attention_decode": decode,
    "moe": moe,
    "elementwise": elementwise,
    "memory": memory,
    "host": host,
    "collective": collective,
    "copy": none,
    "power": none,
}
