"""Power and clock under steady loads: idle, compute-bound, memory-bound, and matrix products between the two."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from calibration.measure.machine import Machine
from calibration.measure.meters import Meter, Reading
from calibration.measure.point import CannotMeasureError, Point, Sample

SETTLE_S = 1.0  # before readings count: the driver's own average spans up to a second
WATCH_S = 2.0
PERIOD_S = 0.02  # of a cycle of work and rest
SIDE = 8192  # of the matrices
COPY_BYTES = 2 * 2**30  # moved by one copy
QUEUED = 4  # calls ahead of the device
READ_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Load:
    """One call of a load, and what it does."""

    call: Callable[[], Any]
    flop: float
    moved_bytes: float


class PowerBench:
    """compute and memory work for `intensity` of the time; mixed is a product of so many flop a byte, all the time."""

    def __init__(
        self,
        machine: Machine,
        meter: Meter | None,
        settle_s: float = SETTLE_S,
        watch_s: float = WATCH_S,
        side: int = SIDE,
    ):
        self._machine, self._meter, self._side = machine, meter, side
        self._settle_s, self._watch_s = settle_s, watch_s
        self._pending: deque[Any] = deque()

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Hold a load and read the meter."""
        if self._meter is None:
            raise CannotMeasureError("no power meter: neither NVML's binding nor nvidia-smi answers")
        name, intensity = point.text("load"), float(point.values["intensity"])
        if name == "idle":
            return self._watch(self._meter, None, 0.0)
        load = self._load(name, intensity)
        return self._watch(self._meter, load, 1.0 if name == "mixed" else intensity)

    def _load(self, name: str, intensity: float) -> Load:
        machine, torch = self._machine, self._machine.torch
        if name == "memory":
            source = machine.operands("bf16", (COPY_BYTES // 4,), 1)[0]
            target = torch.empty_like(source)
            return Load(lambda: target.copy_(source), 0.0, float(COPY_BYTES))
        side = self._side
        rows = side if name == "compute" else rows_for(intensity, side)
        a = machine.operands("bf16", (rows + 3 * side, side), 1)[0]
        weights = [a[rows + i * side : rows + (i + 1) * side].t() for i in range(3)]
        turn = iter(range(10**12))
        moved = 2.0 * (side * side + 2 * rows * side)
        return Load(lambda: torch.mm(a[:rows], weights[next(turn) % 3]), 2.0 * rows * side * side, moved)

    def _watch(self, meter: Meter, load: Load | None, duty: float) -> Sample:
        if load is not None:
            self._machine.synchronize()
            load.call()
            self._machine.synchronize()
        self._hold(load, duty, self._settle_s)
        with _Readings(meter) as readings:
            started = time.perf_counter()
            calls = self._hold(load, duty, self._watch_s)
            watched = time.perf_counter() - started
        if not readings.taken:
            raise CannotMeasureError(f"{meter.name} gave no reading within {watched:.1f} s")
        done = load or Load(lambda: None, 0.0, 0.0)
        return Sample(
            seconds=watched,
            spread_s=0.0,
            repeats=len(readings.taken),
            more={
                "watts": statistics.fmean(reading.watts for reading in readings.taken),
                "clock_hz": statistics.fmean(reading.clock_hz for reading in readings.taken),
                "flop_per_s": done.flop * calls / watched,
                "bytes_per_s": done.moved_bytes * calls / watched,
            },
        )

    def _hold(self, load: Load | None, duty: float, span_s: float) -> int:
        """Cycles of work for `duty` of PERIOD_S and rest; returns the calls made. At full duty the queue stays full."""
        started, calls = time.perf_counter(), 0
        if load is None:
            time.sleep(span_s)
            return 0
        while calls == 0 or time.perf_counter() - started < span_s:
            cycle = time.perf_counter()
            while time.perf_counter() - cycle < duty * PERIOD_S:
                load.call()
                calls += 1
                self._wait(all_but=QUEUED if duty == 1.0 else 0)
            rest = PERIOD_S - (time.perf_counter() - cycle)
            if duty < 1.0 and rest > 0:
                time.sleep(rest)
        self._machine.synchronize()
        return calls

    def _wait(self, all_but: int) -> None:
        """Wait until at most `all_but` of the calls so far are still going on."""
        if not self._machine.is_gpu:
            return
        event = self._machine.torch.cuda.Event()
        event.record()
        self._pending.append(event)
        while len(self._pending) > all_but:
            self._pending.popleft().synchronize()


class _Readings:
    """Reads a meter beside the load, in a thread of its own, from entry to exit."""

    def __init__(self, meter: Meter) -> None:
        self.taken: list[Reading] = []
        self._meter, self._over = meter, threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=30)

    def _read(self) -> None:
        while not self._over.is_set():
            self.taken.append(self._meter.read())
            self._over.wait(READ_EVERY_S)


def rows_for(flop_per_byte: float, side: int) -> int:
    """Rows m of an (m, side) by (side, side) product in two-byte elements with m side / (side + 2 m) flop a byte."""
    if 2 * flop_per_byte >= side:
        raise CannotMeasureError(f"a product of side {side} has less than {flop_per_byte:g} flop a byte")
    return max(1, round(flop_per_byte * side / (side - 2 * flop_per_byte)))
