"""Memory, copies, host, power, collectives, storage and processor."""

from __future__ import annotations

from collections.abc import Iterator

from calibration.measure.plans.target import PlanTarget, grid, rows
from calibration.measure.point import Point
from calibration.measurement_kinds import COLLECTIVES

KIB, MIB, GIB = 2**10, 2**20, 2**30
RIDGE_SHARES = (1, 4, 16, 64, 128, 256, 512, 1024)  # flop a byte of mixed loads, either side of any GPU's ridge


def power(_: PlanTarget) -> Iterator[Point]:
    """Idle and full loads; then between them."""
    corners = [("idle", 0.0), ("compute", 1.0), ("memory", 1.0)]
    mixed = [("mixed", float(share)) for share in RIDGE_SHARES]
    shares = [(load, share) for share in (0.5, 0.25, 0.75) for load in ("compute", "memory")]
    yield from rows("power", 0, "load intensity", corners)
    yield from rows("power", 1, "load intensity", mixed[2::2])
    yield from rows("power", 2, "load intensity", shares + mixed)


def memory(_: PlanTarget) -> Iterator[Point]:
    """Sizes from far below the last cache to far beyond."""
    names = ("read", "write", "copy")
    yield from grid("memory", 0, name=names, bytes=(16 * MIB, 256 * MIB, 4 * GIB))
    yield from grid("memory", 1, name=names, bytes=tuple(MIB * 2**i for i in range(14)))
    yield from grid("memory", 2, name=names, bytes=tuple(3 * MIB * 2**i for i in range(0, 12, 2)))


def copy(_: PlanTarget) -> Iterator[Point]:
    """Pinned copies one way; then both ways, pageable, and many small blocks."""
    one_way = ("h2d", "d2h")
    yield from grid("copy", 0, direction=one_way, pinned=1, blocks=1, block_bytes=(4 * KIB, MIB, 64 * MIB, GIB))
    yield from grid("copy", 0, direction="both", pinned=1, blocks=1, block_bytes=(MIB, 256 * MIB))
    yield from grid("copy", 1, direction=one_way, pinned=0, blocks=1, block_bytes=(4 * KIB, MIB, 64 * MIB, 512 * MIB))
    yield from grid("copy", 1, direction=one_way, pinned=1, blocks=(32, 256), block_bytes=(4 * KIB, 64 * KIB, MIB))
    yield from grid("copy", 1, direction="d2d", pinned=0, blocks=1, block_bytes=(4 * KIB, MIB, 64 * MIB, GIB))
    sizes = tuple(4 * KIB * 4**i for i in range(9))
    yield from grid("copy", 2, direction=(*one_way, "both"), pinned=1, blocks=1, block_bytes=sizes)
    yield from grid("copy", 2, direction=one_way, pinned=0, blocks=1, block_bytes=sizes)
    yield from grid("copy", 2, direction=one_way, pinned=(0, 1), blocks=(8, 128), block_bytes=(16 * KIB, 256 * KIB))
    yield from grid("copy", 2, direction="d2d", pinned=0, blocks=(16, 256), block_bytes=(4 * KIB, 64 * KIB, MIB))


def host(_: PlanTarget) -> Iterator[Point]:
    """Launches alone and in numbers, graphs, waits."""
    yield from grid("host", 0, name=("kernel_launch", "kernel_chain", "graph_launch", "graph_replay"), count=(1, 100))
    yield from grid("host", 0, name=("synchronize", "python_op"), count=100)
    yield from grid("host", 1, name=("kernel_launch", "kernel_chain", "graph_launch", "graph_replay"), count=(10, 300))
    yield from grid("host", 2, name=("graph_launch", "graph_replay"), count=(30, 1000))


def collective(target: PlanTarget) -> Iterator[Point]:
    """Payloads of 1 KiB to 1 GiB over every number of GPUs that the node's shards may take."""
    fixed = {"dtype": "bf16", "backend": target.backend, "link": target.link}
    coarse = (4 * KIB, 256 * KIB, 16 * MIB, GIB)
    fine = tuple(KIB * 4**i for i in range(10))
    for ranks in sorted(target.ranks, reverse=True):
        level = 0 if ranks == max(target.ranks) else 1
        yield from grid("collective", level, kind=COLLECTIVES, ranks=ranks, payload_bytes=coarse, **fixed)
        yield from grid("collective", level + 1, kind=COLLECTIVES, ranks=ranks, payload_bytes=fine, **fixed)


def storage(_: PlanTarget) -> Iterator[Point]:
    """Small and large blocks, shallow and deep queues; then between, mixed, and through the page cache."""
    read_write = ("read", "write")
    yield from grid("storage", 0, operation=read_write, block_bytes=(4 * KIB, MIB), queue_depth=(1, 16), direct=1)
    yield from grid("storage", 1, operation=read_write, block_bytes=(64 * KIB, 8 * MIB), queue_depth=(1, 8), direct=1)
    yield from grid("storage", 1, operation="mixed", block_bytes=(4 * KIB, MIB), queue_depth=(1, 16), direct=1)
    yield from grid("storage", 2, operation=read_write, block_bytes=(4 * KIB, MIB), queue_depth=(4, 64), direct=1)
    yield from grid("storage", 2, operation=read_write, block_bytes=(4 * KIB, MIB), queue_depth=(1, 16), direct=0)
    yield from grid("storage", 3, operation="mixed", block_bytes=(64 * KIB, 8 * MIB), queue_depth=(1, 8), direct=1)


def cpu(target: PlanTarget) -> Iterator[Point]:
    """Memory bandwidth and the optimiser's step on one thread, on all, and between."""
    threads, names = target.threads, ("stream_triad", "adam")
    yield from grid("cpu", 0, name=names, bytes=GIB, threads=tuple(dict.fromkeys((1, threads))))
    steps = [count for count in (2, 4, 8, 16, 32, 64, 128) if count < threads]
    yield from grid("cpu", 1, name=names, bytes=GIB, threads=steps)
    yield from grid("cpu", 2, name=names, bytes=(MIB, 16 * MIB, 128 * MIB, 4 * GIB), threads=threads)
