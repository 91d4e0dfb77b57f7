"""The gaps at both ends of a repeated block are filled: forwards come early, weights come early or late.

Where the block's next pass cannot start yet, a device does weights that are pending, or else the forward that comes
next in the block, while memory lasts. After its last forward it puts weights off for any backward that can start. In
the middle nothing moves (Qi et al., 2405.15362: squeezing and reordering of warm-up and cool-down).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from policies.parallelism.schedules.planning import Plan
from policies.parallelism.schedules.schedule import (
    BACKWARD_WEIGHT,
    FORWARD,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)


def fill(programs: Programs, schedule: PipelineSchedule, micro_batches: int, most_activations: int) -> Programs:
    """The programs, reordered as if every pass took a tick; no device ever holds more than `most_activations`."""
    devices = len(programs)
    plan = Plan(schedule, devices, micro_batches, SlotTimes.uniform(schedule.stages(devices)))
    rows = [_Row.of(program, plan, most_activations) for program in programs]
    plan.run(lambda device, now_s: rows[device].choose(now_s))
    return plan.programs()


@dataclass(slots=True)
class _Row:
    """What is left of a device's program."""

    plan: Plan
    most_activations: int
    ahead: deque[tuple[Slot, int]]  # forwards and backwards, each with the weight passes before it in the program
    forwards_left: int
    weights_done: int = 0
    held: int = 0
    pending: deque[Slot] = field(default_factory=deque)  # weight passes that could run

    @classmethod
    def of(cls, program: tuple[Slot, ...], plan: Plan, most_activations: int) -> _Row:
        """A program, its weight passes counted and left out."""
        ahead: deque[tuple[Slot, int]] = deque()
        weights = 0
        for slot in program:
            if slot.work == BACKWARD_WEIGHT:
                weights += 1
            else:
                ahead.append((slot, weights))
        forwards = sum(slot.work == FORWARD for slot, _ in ahead)
        return cls(plan, most_activations, ahead, forwards)

    def choose(self, now_s: float) -> Slot | None:
        """The slot to start now."""
        if self.ahead:
            slot, weights_before = self.ahead[0]
            if self.forwards_left and self.weights_done < weights_before:
                return self._weight()
            if self.plan.ready_s(slot) <= now_s:
                return self._take(0)
        if self.pending:
            return self._weight()
        return self._early_forward(now_s)

    def _weight(self) -> Slot:
        self.weights_done += 1
        self.held -= 1
        return self.pending.popleft()

    def _take(self, place: int) -> Slot:
        slot, _ = self.ahead[place]
        del self.ahead[place]
        if slot.work == FORWARD:
            self.forwards_left -= 1
            self.held += 1
        else:
            self.pending.append(Slot(BACKWARD_WEIGHT, slot.micro_batch, slot.stage))
        return slot

    def _early_forward(self, now_s: float) -> Slot | None:
        """The next forward of the first chunk, if it can start and memory holds one more up to its own turn."""
        most = held = self.held
        for place, (slot, weights_before) in enumerate(self.ahead):
            alive = held - max(0, weights_before - self.weights_done)
            most = max(most, alive)
            if most >= self.most_activations:
                return None
            if slot.work == FORWARD:
                if place > 0 and slot.stage < len(self.plan.rows):
                    return self._take(place) if self.plan.ready_s(slot) <= now_s else None
                held += 1
                most = max(most, alive + 1)
        return None
