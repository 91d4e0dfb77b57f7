"""The rules by which ZB-1p and ZB-2p place one device's slots (Qi et al., 2401.10241, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from policies.parallelism.schedules.planning import Choose, Plan
from policies.parallelism.schedules.schedule import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the paper's rules leave open."""

    late_warm_up: bool  # start a forward that would delay the first backward?
    skip_forwards: bool  # leave a forward out of its turn, where the next device has enough to go on with?


def by_rules(plan: Plan, limit_bytes: float, choices: Choices) -> Choose:
    """What every device does next in `plan`, so that none holds more than `limit_bytes` of activations."""
    devices = len(plan.rows)
    times = plan.times
    rows: list[DeviceRules] = []
    first_backward_s = sum(times.forward_s) + (devices - 1) * times.send_s
    for device in reversed(range(devices)):
        following = rows[-1] if rows else None
        rows.append(DeviceRules(plan, device, plan.micro_batches, limit_bytes, choices, first_backward_s, following))
        first_backward_s += times.backward_input_s[device] + times.send_s
    rows.reverse()
    return lambda device, now_s: rows[device].choose(now_s)


@dataclass(slots=True)
class DeviceRules:
    """What a device has done, and what it does next.

    Forwards as early as they can go until the first backward is there. Then a forward and a backward in turn, with
    weights where the next of them is further off than they take, where a shorter wait would make the longest bubble of
    all devices longer, and where a forward finds no memory.
    """

    plan: Plan
    device: int
    micro_batches: int
    limit_bytes: float
    choices: Choices
    first_backward_s: float  # the earliest moment at which the first backward can start here
    following: DeviceRules | None  # the next device's
    forwards: int = 0
    backwards: int = 0
    warm_up: int = 0  # forwards before the first backward, less those skipped since
    held_bytes: float = 0.0
    weights: int = 0

    @property
    def pending(self) -> bool:
        """Are there weights that could be done?"""
        return self.weights < self.backwards

    def choose(self, now_s: float) -> Slot | None:
        """The slot to start now, or None to wait."""
        plan, stage = self.plan, self.device
        forward_s = plan.forward_ready_s[stage][self.forwards] if self.forwards < self.micro_batches else inf
        backward_s = plan.backward_ready_s[stage][self.backwards] if self.backwards < self.micro_batches else inf
        fits = self.held_bytes + plan.times.activation_bytes[stage] <= self.limit_bytes
        if self.backwards:
            return self._in_turn(now_s, forward_s, backward_s, fits=fits)
        if backward_s <= now_s:
            return self._backward()
        end_s = now_s + plan.times.forward_s[stage]
        in_time = not self.forwards or self.choices.late_warm_up or end_s <= self.first_backward_s
        return self._forward() if fits and in_time and forward_s <= now_s else None

    def _in_turn(self, now_s: float, forward_s: float, backward_s: float, *, fits: bool) -> Slot | None:
        if self.choices.skip_forwards and backward_s <= now_s:
            self._skip_forward()
        turn = self._turn_of_forward()
        if turn and forward_s <= now_s:
            if fits:
                return self._forward()
            if self.pending:
                return self._weight()
        if backward_s <= now_s:
            return self._backward()
        next_s = min(backward_s, forward_s) if fits and turn else backward_s
        if self.pending and self._worth_it(now_s, next_s - now_s):
            return self._weight()
        end_s = now_s + self.plan.times.forward_s[self.device]
        return self._forward() if fits and forward_s <= now_s and end_s <= backward_s else None

    def _turn_of_forward(self) -> bool:
        """As many forwards as backwards since the warm-up, and never no micro-batch on its way."""
        behind = self.forwards - self.warm_up < self.backwards or self.forwards == self.backwards
        return behind and self.forwards < self.micro_batches

    def _skip_forward(self) -> None:
        """Leave out a forward whose turn it is, if the next device has one to spare; one stays on its way."""
        to_spare = self.following is not None and self.forwards - self.following.forwards > 1
        if to_spare and self.warm_up > 1 and self._turn_of_forward():
            self.warm_up -= 1

    def _worth_it(self, now_s: float, gap_s: float) -> bool:
        """Do the weights fit the gap, or would this device's span become the longest of all?"""
        if gap_s >= self.plan.times.backward_weight_s[self.device]:
            return True
        idle_s = now_s - self.plan.free_s[self.device] + gap_s
        return self.plan.span_s[self.device] + idle_s > max(self.plan.span_s)

    def _forward(self) -> Slot:
        self.forwards += 1
        self.warm_up += not self.backwards
        self.held_bytes += self.plan.times.activation_bytes[self.device]
        return Slot(FORWARD, self.forwards - 1, self.device)

    def _backward(self) -> Slot:
        times = self.plan.times
        self.held_bytes -= times.activation_bytes[self.device] - times.weight_input_bytes[self.device]
        self.backwards += 1
        return Slot(BACKWARD_INPUT, self.backwards - 1, self.device)

    def _weight(self) -> Slot:
        self.held_bytes -= self.plan.times.weight_input_bytes[self.device]
        self.weights += 1
        return Slot(BACKWARD_WEIGHT, self.weights - 1, self.device)
