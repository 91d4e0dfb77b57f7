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
        self.bubble_s = [0.0] * devices  # idle between a device's first start and its latest end so far
        self._started = [False] * devices
        self._columns_s = times.columns_s()
        self._forward_s = [[inf] * micro_batches for _ in range(stages)]  # done: by stage and micro-batch
        self._backward_s = [[inf] * micro_batches for _ in range(stages)]
        self._next: list[int | None] = [*device_of[1:], None]  # who has the stage after
        self._previous: list[int | None] = [None, *device_of[:-1]]
        joints = pairwise([device_of[0], *device_of, device_of[-1]])
        self._send_s = [0.0 if a == b else times.send_s for a, b in joints]  # to a stage from the one before, and out

    def ready_s(self, slot: Slot) -> float:
        """When all that a forward or backward needs is on its device; infinity while some of it has no place."""
        work, micro_batch, stage = slot
        if work == FORWARD:
            return self._forward_s[stage - 1][micro_batch] + self._send_s[stage] if stage else 0.0
        own_s = self._forward_s[stage][micro_batch]
        if self._next[stage] is None:
            return own_s
        return max(own_s, self._backward_s[stage + 1][micro_batch] + self._send_s[stage + 1])

    def programs(self) -> Programs:
        """What has been placed, device by device."""
        return tuple(tuple(row) for row in self.rows)

    def run(self, choose: Choose, longest_bubble_s: float = inf) -> bool:
        """Ask devices in the order of time until none has anything left to start.

        False, with no more than a part placed, if a bubble gets as long as `longest_bubble_s`.
        """
        events = [(0.0, device) for device in range(len(self.rows))]
        while events:
            now_s, device = heappop(events)
            if self.free_s[device] > now_s:
                continue  # busy: it is asked again when it is free
            slot = choose(device, now_s)
            if slot is None:
                continue  # waits: it is asked again when something arrives
            if self._idle(device, now_s) >= longest_bubble_s:
                return False
            self._place(device, slot, now_s, events)
        return True

    def _idle(self, device: int, now_s: float) -> float:
        """A device's bubble with what it has waited until now."""
        if self._started[device]:
            self.bubble_s[device] += now_s - self.free_s[device]
        self._started[device] = True
        return self.bubble_s[device]

    def _place(self, device: int, slot: Slot, now_s: float, events: list[tuple[float, int]]) -> None:
        work, micro_batch, stage = slot
        end_s = self.free_s[device] = now_s + self._columns_s[work][stage]
        self.rows[device].append(slot)
        heappush(events, (end_s, device))
        if work == BACKWARD_WEIGHT:
            return
        if work == FORWARD:
            self._forward_s[stage][micro_batch] = end_s
            waiting, arrives_s = self._next[stage], end_s + self._send_s[stage + 1]
        else:
            self._backward_s[stage][micro_batch] = end_s
            waiting, arrives_s = self._previous[stage], end_s + self._send_s[stage]
        if waiting is not None and waiting != device:
            heappush(events, (arrives_s, waiting))
