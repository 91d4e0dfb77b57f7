"""GIS, a generalised interleaved schedule (Wan et al., PipeOffload, 2503.01328): 1F1B-I with fewer activations.

Micro-batches go in groups of g, from p / 2 to p, through all of a device's chunks. A forward needs its own length to
reach the next device and a backward the length of its first half, so that a group of p / 2 is back before the device
runs out of work. Interleaved 1F1B, in which both take a turn of a forward and a backward from device to device, warms
up with p - 1 passes more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated

from annotated_types import Interval

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules.interleaved import Chunks
from policies.parallelism.schedules.planning import Plan
from policies.parallelism.schedules.schedule import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)

REMEMBERED = 8
UNDONE = (1, 2, 3)  # weights' gradients that may wait for their turn on a device


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedInterleaved(PipelineSchedule):
    """Device i starts a forward while fewer than v g + p - g + 1 - i passes through a chunk are on their way."""

    chunks: Chunks = 2
    group_size: Annotated[int, Interval(ge=1)] | None = None  # absent: as many as stages; half as many are fewest

    @property
    def splits_backward(self) -> bool:
        """Gradients of inputs go on at once."""
        return True

    def group(self, devices: int) -> int:
        """Micro-batches that go through a chunk in a row."""
        return devices if self.group_size is None else self.group_size

    def on_the_way(self, device: int, devices: int) -> int:
        """Passes through a chunk that a device has begun at most and not finished."""
        group = self.group(devices)
        return self.chunks * group + devices - group + 1 - device

    def check(self, devices: int, micro_batches: int, where: str) -> None:
        """Raises ImpossibleError for one device, or a group that does not come back in time."""
        PipelineSchedule.check(self, devices, micro_batches, where)
        if devices < 2:
            raise ImpossibleError(f"{where}: 'gis' needs at least 2 stages, not {devices}")
        if not devices <= 2 * self.group(devices) <= 2 * devices:
            raise ImpossibleError(
                f"{where}.group_size = {self.group_size}: give between half of the {devices} pipeline stages and all"
            )

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """Planned with the times; the best of a few numbers of weights' gradients that may wait."""
        return _planned(self, devices, micro_batches, times or SlotTimes.uniform(self.stages(devices)))


@lru_cache(maxsize=REMEMBERED)
def _planned(schedule: GeneralizedInterleaved, devices: int, micro_batches: int, times: SlotTimes) -> Programs:
    best: tuple[float, Programs] | None = None
    for undone in UNDONE:
        plan = Plan(schedule, devices, micro_batches, times)
        rows = [_Row.of(schedule, plan, device, undone) for device in range(devices)]
        plan.run(partial(_choose, rows))
        if best is None or max(plan.free_s) < best[0]:
            best = max(plan.free_s), plan.programs()
    assert best is not None
    return best[1]


def _choose(rows: list[_Row], device: int, now_s: float) -> Slot | None:
    return rows[device].choose(now_s)


@dataclass(slots=True)
class _Row:
    """What one device does next: the backward or the forward whose turn it is, else weights that wait."""

    plan: Plan
    ahead: list[Slot]
    back: list[Slot]
    most: int  # passes on their way
    undone: int  # weights that wait
    forwards: int = 0
    backwards: int = 0
    weights: int = 0
    went_back: bool = False  # was its last pass, weights apart, a backward?

    @classmethod
    def of(cls, schedule: GeneralizedInterleaved, plan: Plan, device: int, undone: int) -> _Row:
        """All passes of a device in groups."""
        devices, group = len(plan.rows), schedule.group(len(plan.rows))
        stages = range(device, devices * schedule.chunks, devices)
        groups = [range(first, min(first + group, plan.micro_batches)) for first in range(0, plan.micro_batches, group)]
        ahead = [Slot(FORWARD, one, stage) for members in groups for stage in stages for one in members]
        back = [Slot(BACKWARD_INPUT, one, stage) for members in groups for stage in reversed(stages) for one in members]
        return cls(plan, ahead, back, schedule.on_the_way(device, devices), undone)

    def choose(self, now_s: float) -> Slot | None:
        """The slot to start now, or None to wait."""
        waiting = self.backwards - self.weights
        if waiting >= self.undone:
            return self._weight()
        turns = (self._forward, self._backward) if self.went_back else (self._backward, self._forward)
        for turn in turns:
            if slot := turn(now_s):
                return slot
        return self._weight() if waiting else None

    def _forward(self, now_s: float) -> Slot | None:
        if self.forwards == len(self.ahead) or self.forwards - self.weights >= self.most:
            return None
        slot = self.ahead[self.forwards]
        if self.plan.ready_s(slot) > now_s:
            return None
        self.forwards += 1
        self.went_back = False
        return slot

    def _backward(self, now_s: float) -> Slot | None:
        if self.backwards == len(self.back) or self.plan.ready_s(self.back[self.backwards]) > now_s:
            return None
        self.backwards += 1
        self.went_back = True
        return self.back[self.backwards - 1]

    def _weight(self) -> Slot:
        self.weights += 1
        return self.back[self.weights - 1]._replace(work=BACKWARD_WEIGHT)
