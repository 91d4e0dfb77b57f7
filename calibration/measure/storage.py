"""Reads and writes of a scratch file, by as many threads as the queue is deep."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.statistics import summarise

FILE_BYTES = 2 * 2**30
DISK_FRACTION = 0.25  # of the free space that the file may take
SLICES = 5  # parts of the timed span, whose median is reported
SLICE_S = 0.15
FILL_BYTES = 8 * 2**20
NAME = "fleetcast-scratch.bin"
LONGEST_FILL_S = 20.0


class StorageBench:
    """Random, aligned requests. Python threads share one interpreter lock, which bounds requests (not bytes) a second
    near 1e5: small blocks at deep queues on a fast drive show the host.
    """

    def __init__(self, scratch: Path, file_bytes: int = FILE_BYTES, slice_s: float = SLICE_S) -> None:
        self._path = scratch / NAME
        self._file_bytes, self._slice_s = file_bytes, slice_s
        self._filled = 0

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        block, depth, direct = point.count("block_bytes"), point.count("queue_depth"), point.count("direct")
        size = self._fill()
        if block * depth > size:
            raise CannotMeasureError(f"{depth} blocks of {block} bytes exceed the scratch file of {size} bytes")
        flags = os.O_RDWR | (getattr(os, "O_DIRECT", 0) if direct else 0)
        try:
            descriptor = os.open(self._path, flags)
        except OSError as error:
            raise CannotMeasureError(f"the scratch folder's file system refuses O_DIRECT ({error.strerror})") from error
        try:
            return self._timed(descriptor, point.text("operation"), block, depth, size)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Delete the scratch file."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._filled = 0

    def _timed(self, descriptor: int, operation: str, block: int, depth: int, size: int) -> Sample:
        counts, stop, failures = [0] * depth, threading.Event(), list[OSError]()

        def worker(index: int) -> None:
            with mmap.mmap(-1, block) as buffer:  # page-aligned, as O_DIRECT asks
                buffer[:] = os.urandom(min(block, 2**20)) * (block // min(block, 2**20))
                draw = random.Random(index)
                request = _request(descriptor, buffer, operation, draw)
                while not stop.is_set():
                    try:
                        request(draw.randrange(size // block) * block)
                    except OSError as error:
                        failures.append(error)
                        return
                    counts[index] += 1

        threads = [threading.Thread(target=worker, args=(i,), daemon=True) for i in range(depth)]
        for thread in threads:
            thread.start()
        try:
            seconds = self._watch(counts, depth, failures)
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=30)
        if failures:
            raise failures[0]
        if not seconds:
            raise CannotMeasureError("no request ended within the time of a point")
        return replace(summarise(seconds), repeats=max(1, sum(counts)))

    def _watch(self, counts: list[int], depth: int, failures: list[OSError]) -> list[float]:
        """Seconds of one request in each slice: by Little's law depth x span / requests that ended in it."""
        seconds, last, before = [], sum(counts), time.perf_counter()
        for _ in range(SLICES):
            time.sleep(self._slice_s)
            ended, now = sum(counts), time.perf_counter()
            if ended > last:
                seconds.append(depth * (now - before) / (ended - last))
                last, before = ended, now
            if failures:
                break
        return seconds

    def _fill(self) -> int:
        """Write the file once with random bytes; its size."""
        if self._filled:
            return self._filled
        self._path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._path.parent).free
        wanted = int(min(self._file_bytes, DISK_FRACTION * free)) // FILL_BYTES * FILL_BYTES
        if wanted < FILL_BYTES:
            raise CannotMeasureError(f"only {free} bytes are free in {self._path.parent}")
        started, written, content = time.perf_counter(), 0, os.urandom(FILL_BYTES)
        with self._path.open("wb") as stream:
            while written < wanted and time.perf_counter() - started < LONGEST_FILL_S:
                stream.write(content)
                written += FILL_BYTES
            stream.flush()
            os.fsync(stream.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._filled = written
        return written


def _request(descriptor: int, buffer: mmap.mmap, operation: str, draw: random.Random) -> Callable[[int], object]:
    """A function that does one request at an offset; `mixed` reads and writes by turns of a coin."""

    def read(offset: int) -> object:
        return os.preadv(descriptor, [buffer], offset)

    def write(offset: int) -> object:
        return os.pwritev(descriptor, [buffer], offset)

    if operation == "mixed":
        return lambda offset: read(offset) if draw.random() < 0.5 else write(offset)
    return read if operation == "read" else write
