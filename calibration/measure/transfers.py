"""Bandwidth of the device's memory, and copies between it and the host."""

from __future__ import annotations

from typing import Any

from calibration.measure.machine import Machine
from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.timer import Call, Timer

LARGEST_HOST_BYTES = 8 * 2**30  # host buffers of one point


class MemoryBench:
    """Reads (a sum), writes (a constant) and copies of fp32 arrays; `bytes` is what moves."""

    def __init__(self, machine: Machine, timer: Timer) -> None:
        self._machine, self._timer = machine, timer

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        name, moved = point.text("name"), point.count("bytes")
        machine, count = self._machine, self._machine.rotations(moved)
        elements = moved // 4 if name != "copy" else moved // 8
        if name == "read":
            source = machine.operands("fp32", (elements,), count)
            return self._timer.device_time(lambda i: source[i % count].sum(), limit_s, 2)
        # written arrays lie apart from the pool, whose values must stay random
        written = machine.torch.empty(count, elements, dtype=machine.torch.float32, device=machine.device)
        if name == "write":
            return self._timer.device_time(lambda i: written[i % count].fill_(0.1 * i), limit_s)
        source = machine.operands("fp32", (elements,), count)
        return self._timer.device_time(lambda i: written[i % count].copy_(source[i % count]), limit_s)


class CopyBench:
    """`blocks` copies of `block_bytes` in one go, timed on the host from the first call to the last byte."""

    def __init__(self, machine: Machine, timer: Timer) -> None:
        self._machine, self._timer = machine, timer
        self._streams: list[Any] = []
        self._host: dict[bool, Any] = {}

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        if not self._machine.is_gpu:
            raise CannotMeasureError("copies between host and device need a GPU")
        blocks, size, direction = point.count("blocks"), point.count("block_bytes"), point.text("direction")
        device = self._machine.operands("int8", (size,), 2 * blocks)
        there, back = device[:blocks], device[blocks:]
        if direction == "d2d":
            return self._timer.host_time(_copies(there, back), limit_s)
        host = self._host_blocks(bool(point.count("pinned")), blocks, size)
        upload, download = _copies(there, host[:blocks]), _copies(host[blocks:], back)
        if direction == "both":
            return self._timer.host_time(self._both(upload, download), limit_s)
        return self._timer.host_time(upload if direction == "h2d" else download, limit_s)

    def _both(self, upload: Call, download: Call) -> Call:
        cuda = self._machine.torch.cuda
        self._streams = self._streams or [cuda.Stream(), cuda.Stream()]

        def call(i: int) -> None:
            for stream, copy in zip(self._streams, (upload, download), strict=True):
                with cuda.stream(stream):
                    copy(i)

        return call

    def _host_blocks(self, pinned: bool, blocks: int, size: int) -> list[Any]:
        """2 x `blocks` random host buffers; a pool for pinned and one for pageable memory is kept, and grows."""
        torch, needed = self._machine.torch, 2 * blocks * size
        if needed > LARGEST_HOST_BYTES:
            raise CannotMeasureError(f"needs {needed:.3g} bytes of host memory, above {LARGEST_HOST_BYTES:.3g}")
        pool = self._host.get(pinned)
        if pool is None or pool.numel() < needed:
            self._host.pop(pinned, None)
            pool = torch.empty(needed, dtype=torch.int8, pin_memory=pinned)
            pool.view(torch.int64 if needed % 8 == 0 else torch.int8).random_()
            self._host[pinned] = pool
        return [pool[i * size : (i + 1) * size] for i in range(2 * blocks)]


def _copies(targets: list[Any], sources: list[Any]) -> Call:
    def call(_: int) -> None:
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source, non_blocking=True)

    return call
