"""Times repeated calls: with device events behind a spinning kernel on a GPU, with the host's clock on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from calibration.measure.machine import Machine
from calibration.measure.point import Sample
from calibration.measure.statistics import summarise
from calibration.measurement_kinds import Value

Call = Callable[[int], Any]  # the argument counts calls, to rotate operands

BLOCK_S = 4e-4  # a block of calls is timed as one, long against an event's resolution of 0.5 us
WARM_UP_S = 0.02
FEWEST_BLOCKS = 5
MOST_BLOCKS = 25
MOST_CALLS = 100  # in a block
MOST_QUEUED = 500  # kernels that fit the driver's queue without blocking the host
SPIN_HZ = 2e9  # cycles a second of the spinning kernel at the highest clock; a lower clock spins longer
LONGEST_SPIN_S = 0.05
TRIES = 3


class Timer:
    """Times a call on a machine."""

    def __init__(self, machine: Machine, clock: Callable[[], float] = time.perf_counter) -> None:
        self._machine = machine
        self._clock = clock

    def device_time(
        self, call: Call, limit_s: float, launches: int = 1, more: Mapping[str, Value] | None = None
    ) -> Sample:
        """Time on the device of one call among many queued ones, as in a step whose launches run ahead.

        launches: kernels a call, so that the queue is never full. A call that outlasts `limit_s` is timed once.
        """
        if not self._machine.is_gpu:
            return self.host_time(call, limit_s, more)
        slow = self._if_slow(call, limit_s)
        if slow is not None:
            return summarise([slow], more=more)
        single, enqueue, index = self._warm_up(call, min(WARM_UP_S, limit_s))
        calls = max(1, min(MOST_CALLS, MOST_QUEUED // launches, int(BLOCK_S / single)))
        blocks: list[float] = []
        started = self._clock()
        while len(blocks) < MOST_BLOCKS:
            blocks.append(self._block(call, index, calls, enqueue))
            index += calls
            if self._clock() - started > limit_s and len(blocks) >= FEWEST_BLOCKS:
                break
            if self._clock() - started > 2 * limit_s:
                break
        return summarise(blocks, calls, more)

    def host_time(self, call: Call, limit_s: float, more: Mapping[str, Value] | None = None) -> Sample:
        """Time by the host's clock from the call until the device has finished."""
        slow = self._if_slow(call, limit_s)
        if slow is not None:
            return summarise([slow], more=more)
        single, _, index = self._warm_up(call, min(WARM_UP_S, limit_s))
        calls = 1 if self._machine.is_gpu else max(1, min(MOST_CALLS, int(BLOCK_S / single)))
        blocks: list[float] = []
        started = self._clock()
        while len(blocks) < FEWEST_BLOCKS or (len(blocks) < 2 * MOST_BLOCKS and self._clock() - started < limit_s):
            before = self._clock()
            for i in range(index, index + calls):
                call(i)
            self._machine.synchronize()
            blocks.append((self._clock() - before) / calls)
            index += calls
            if self._clock() - started > 2 * limit_s:
                break
        return summarise(blocks, calls, more)

    def _if_slow(self, call: Call, limit_s: float) -> float | None:
        """Seconds of the second call where both outlast the limit; the first alone may have compiled a kernel."""
        if self._once(call, 0) <= limit_s:
            return None
        second = self._once(call, 1)
        return second if second > limit_s else None

    def _once(self, call: Call, index: int) -> float:
        self._machine.synchronize()
        started = self._clock()
        call(index)
        self._machine.synchronize()
        return self._clock() - started

    def _warm_up(self, call: Call, warm_s: float) -> tuple[float, float, int]:
        """Seconds of a call, seconds to enqueue one, and the number of the next call."""
        started, index = self._clock(), 2
        while True:
            before = self._clock()
            for i in range(index, index + 3):
                call(i)
            enqueued = self._clock()
            self._machine.synchronize()
            index += 3
            if self._clock() - started > warm_s or index > 300:
                return max(1e-7, (self._clock() - before) / 3), (enqueued - before) / 3, index

    def _block(self, call: Call, index: int, calls: int, enqueue_s: float) -> float:
        """Seconds a call over a block, all of it queued before the device begins."""
        cuda = self._machine.torch.cuda
        spin_s = 3e-5 + 1.5 * enqueue_s * calls
        for _ in range(TRIES):
            start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            self._machine.synchronize()
            cuda._sleep(int(min(spin_s, LONGEST_SPIN_S) * SPIN_HZ))
            start.record()
            before = self._clock()
            for i in range(index, index + calls):
                call(i)
            queueing = self._clock() - before
            began_early = start.query()
            end.record()
            self._machine.synchronize()
            elapsed = float(start.elapsed_time(end)) * 1e-3
            if not began_early or queueing < 0.1 * elapsed:
                break
            spin_s = 2 * spin_s + queueing
        return elapsed / calls
