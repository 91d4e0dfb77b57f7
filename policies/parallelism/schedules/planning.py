"""Programs written in the order of time: each device, when it is free, says which slot it runs next."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import pairwise
from math import inf

from policies.parallelism.schedules.schedule import (
    BACKWARD_WEIGHT,
    FORWARD,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)

Choose = Callable[[int, float], Slot | None]  # device and the moment: what it starts now, or None to wait


class Plan:
    """What has been placed so far, when it ends, and when its results are where they are needed."""

    def __init__(self, schedule: PipelineSchedule, devices: int, micro_batches: int, times: SlotTimes) -> None:
        stages = schedule.stages(devices)
        device_of = [schedule.device_of(stage, devices) for stage in range(stages)]
        self.times = times
        self.micro_batches = micro_batches
        self.rows: list[list[Slot]] = [[] for _ in range(devices)]
        self.free_s = [0.0] * devices
        self.span_s = _work_s(times, device_of, devices, micro_batches)  # a device: work, and idle time so far
        # When what a pass needs is on its device, by stage and micro-batch; infinity while some of it has no place.
        self.forward_ready_s = [[inf if stage else 0.0] * micro_batches for stage in range(stages)]
        self.backward_ready_s = [[inf] * micro_batches for _ in range(stages)]
        self._started = [False] * devices
        self._down_s, self._up_s = [0.0] * devices, [0.0] * devices  # until when sends of each way are under way
        self._columns_s = times.columns_s()
        self._device_of, self._last = device_of, stages - 1
        joints = enumerate(pairwise(device_of), start=1)
        self._send_s = [0.0, *(0.0 if a == b else times.hop_s(stage) for stage, (a, b) in joints)]  # to each stage

    def ready_s(self, slot: Slot) -> float:
        """When all that a forward or backward needs is on its device; infinity while some of it has no place."""
        ready_s = self.forward_ready_s if slot.work == FORWARD else self.backward_ready_s
        return ready_s[slot.stage][slot.micro_batch]

    def programs(self) -> Programs:
        """What has been placed, device by device."""
        return tuple(tuple(row) for row in self.rows)

    def run(self, choose: Choose, longest_span_s: float = inf) -> bool:
        """Ask devices in the order of time until none has anything left to start.

        False, with no more than a part placed, if a device's span gets as long as `longest_span_s`.
        """
        events = [(0.0, device) for device in range(len(self.rows))]
        while events:
            now_s, device = heappop(events)
            if self.free_s[device] > now_s:
                continue  # busy: it is asked again when it is free
            slot = choose(device, now_s)
            if slot is None:
                continue  # waits: it is asked again when something arrives
            if self._idle(device, now_s) >= longest_span_s:
                return False
            self._place(device, slot, now_s, events)
        return True

    def _idle(self, device: int, now_s: float) -> float:
        """A device's span with what it has waited until now."""
        if self._started[device]:
            self.span_s[device] += now_s - self.free_s[device]
        self._started[device] = True
        return self.span_s[device]

    def _place(self, device: int, slot: Slot, now_s: float, events: list[tuple[float, int]]) -> None:
        work, micro_batch, stage = slot
        end_s = self.free_s[device] = now_s + self._columns_s[work][stage]
        self.rows[device].append(slot)
        heappush(events, (end_s, device))
        if work == FORWARD:
            if stage < self._last:
                at_s = self._sent_s(self._down_s, device, end_s, self._send_s[stage + 1])
                self._arrive(self.forward_ready_s, stage + 1, micro_batch, at_s, events)
            else:  # the loss: its gradient is here at once
                self.backward_ready_s[stage][micro_batch] = end_s
        elif work != BACKWARD_WEIGHT and stage:
            at_s = self._sent_s(self._up_s, device, end_s, self._send_s[stage])
            self._arrive(self.backward_ready_s, stage - 1, micro_batch, at_s, events)

    def _sent_s(self, line_s: list[float], device: int, end_s: float, send_s: float) -> float:
        """When a send is there: one at a time leaves a device each way."""
        if send_s:
            end_s = line_s[device] = max(end_s, line_s[device]) + send_s
        return end_s

    def _arrive(
        self, ready_s: list[list[float]], stage: int, micro_batch: int, at_s: float, events: list[tuple[float, int]]
    ) -> None:
        """What a pass needs comes at such a moment; its device is asked then, unless it will be asked later anyway."""
        ready_s[stage][micro_batch] = at_s
        device = self._device_of[stage]
        if self.free_s[device] <= at_s:
            heappush(events, (at_s, device))


def _work_s(times: SlotTimes, device_of: list[int], devices: int, micro_batches: int) -> list[float]:
    """Seconds of all passes of each device."""
    work_s = [0.0] * devices
    columns = zip(device_of, times.forward_s, times.backward_input_s, times.backward_weight_s, strict=True)
    for device, *seconds in columns:
        work_s[device] += sum(seconds) * micro_batches
    return work_s
