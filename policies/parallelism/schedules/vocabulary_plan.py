"""Rows of a pipeline whose devices share the output layer, in the order of time: a device takes what it prefers of the
passes that can start.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from policies.parallelism.schedules.meeting import AGREE, BROADCAST, REDUCE
from policies.parallelism.schedules.schedule import BACKWARD, FORWARD, Programs, Slot, SlotTimes

LAYERS, SHARE = 0, 1  # a device's stages: its layers, and its part of the vocabulary
SCORES, GRADIENTS = (SHARE, FORWARD), (SHARE, BACKWARD)
AHEAD, BACK = (LAYERS, FORWARD), (LAYERS, BACKWARD)
Kind = tuple[int, str]
Order = tuple[Kind, ...]
ORDERS: tuple[Order, ...] = (  # what a device prefers; of its layers' passes, the one whose turn it is
    (SCORES, GRADIENTS, BACK, AHEAD),
    (SCORES, BACK, GRADIENTS, AHEAD),
    (SCORES, BACK, AHEAD, GRADIENTS),
)
UNDONE = 2  # micro-batches at most whose scores wait for their gradients on a device


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Every device's slots, and when the last of them ends."""

    programs: Programs
    end_s: float


def plan_rows(
    micro_batches: int,
    times: SlotTimes,
    most: tuple[int, ...],
    order: Order,
    *,
    one_meeting: bool,
) -> RowPlan:
    """Plan a step.

    most: of each device, micro-batches on their way through its layers at once. order: what a device prefers.
    one_meeting: the last layer's backward can start when devices have agreed; else when gradients are added up.
    """
    plan = _Rows(micro_batches, times, most, order, one_meeting=one_meeting)
    plan.run()
    return RowPlan(tuple(tuple(row) for row in plan.rows), max(plan.free_s))


class _Rows:
    def __init__(
        self,
        micro_batches: int,
        times: SlotTimes,
        most: tuple[int, ...],
        order: Order,
        *,
        one_meeting: bool,
    ) -> None:
        devices = len(most)
        self.micro_batches, self.times, self.most, self.order = micro_batches, times, most, order
        self.one_meeting = one_meeting
        self.swapped = tuple({BACK: AHEAD, AHEAD: BACK}.get(kind, kind) for kind in order)
        self.was: list[Kind] = [AHEAD] * devices  # its last pass through its layers
        self.rows: list[list[Slot]] = [[] for _ in most]
        self.free_s = [0.0] * devices
        self.events = [(0.0, device) for device in range(devices)]
        self.seconds = times.columns_s()
        self.done = [dict.fromkeys((AHEAD, BACK, SCORES, GRADIENTS), 0) for _ in most]
        never = [inf] * (micro_batches + 1)
        self.ready_s = [{kind: never.copy() for kind in self.done[0]} for _ in most]
        self.ready_s[0][AHEAD] = [0.0] * micro_batches + [inf]
        self.there = {SCORES: [0] * micro_batches, GRADIENTS: [0] * micro_batches}  # devices that have done it
        self.latest_s = {SCORES: [0.0] * micro_batches, GRADIENTS: [0.0] * micro_batches}

    def run(self) -> None:
        """Ask devices in the order of time until none has anything left to start."""
        while self.events:
            now_s, device = heappop(self.events)
            if self.free_s[device] <= now_s and (kind := self._choose(device, now_s)):
                self._place(device, kind, now_s)

    def _choose(self, device: int, now_s: float) -> Kind | None:
        done, ready_s = self.done[device], self.ready_s[device]
        undone = done[SCORES] - done[GRADIENTS]
        if undone >= UNDONE and ready_s[GRADIENTS][done[GRADIENTS]] <= now_s:
            return GRADIENTS
        alive = done[AHEAD] - done[BACK]
        for kind in self._in_turn(device):
            if ready_s[kind][done[kind]] <= now_s and (kind != AHEAD or alive < self.most[device]):
                return kind
        return None

    def _in_turn(self, device: int) -> Order:
        """After a backward, a forward goes first: two backwards in a row leave later ones without scores."""
        return self.swapped if self.was[device] == BACK else self.order

    def _place(self, device: int, kind: Kind, now_s: float) -> None:
        part, work = kind
        stage = device + part * len(self.rows)
        micro_batch = self.done[device][kind]
        self.done[device][kind] += 1
        self.rows[device].append(Slot(work, micro_batch, stage))
        end_s = self.free_s[device] = now_s + self.seconds[work][stage]
        heappush(self.events, (end_s, device))
        if part == LAYERS:
            self.was[device] = kind
        if part == SHARE:
            self._meet(kind, micro_batch, end_s)
        elif work == FORWARD and device < len(self.rows) - 1:
            self._arrive(device + 1, AHEAD, micro_batch, end_s + self.times.hop_s(stage + 1))
        elif work == FORWARD:
            for one in range(len(self.rows)):
                self._arrive(one, SCORES, micro_batch, end_s + self.times.meeting_s(BROADCAST))
        elif device:
            self._arrive(device - 1, BACK, micro_batch, end_s + self.times.hop_s(stage))

    def _meet(self, kind: Kind, micro_batch: int, end_s: float) -> None:
        """All devices go on together when the last of them is there."""
        devices = range(len(self.rows))
        self.there[kind][micro_batch] += 1
        end_s = self.latest_s[kind][micro_batch] = max(end_s, self.latest_s[kind][micro_batch])
        if self.there[kind][micro_batch] < len(self.rows):
            return
        if kind == SCORES:
            agreed_s = end_s + self.times.meeting_s(AGREE)
            for device in devices:
                self._arrive(device, GRADIENTS, micro_batch, agreed_s)
            if self.one_meeting:
                self._arrive(devices[-1], BACK, micro_batch, agreed_s)
        elif not self.one_meeting:
            self._arrive(devices[-1], BACK, micro_batch, end_s + self.times.meeting_s(REDUCE))

    def _arrive(self, device: int, kind: Kind, micro_batch: int, at_s: float) -> None:
        self.ready_s[device][kind][micro_batch] = at_s
        heappush(self.events, (max(at_s, self.free_s[device]), device))
