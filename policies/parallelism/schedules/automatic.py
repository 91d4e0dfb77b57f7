"""ZB-1p and ZB-2p: zero-bubble schedules found from measured times under a limit of memory (Qi et al., 2401.10241)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import inf
from typing import ClassVar

from policies.parallelism.schedules.heuristic import Choices, by_rules
from policies.parallelism.schedules.planning import Choose, Plan
from policies.parallelism.schedules.schedule import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)
from policies.parallelism.schedules.zero_bubble import ZeroBubbleH1, ZeroBubbleH2

ROUNDING = 1e-9  # relative, on bytes that are added and subtracted again


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroBubble1p(PipelineSchedule):
    """The paper's heuristic (its section 3.1) with 1F1B's peak memory as every device's limit.

    Forwards fill the warm-up; then a forward and a backward in turn; weights' gradients where there is a gap that they
    fit, where memory is out, or where waiting would make the longest bubble longer. What the rules leave open is tried
    both ways, and so are the schedules by hand if they fit; the plan with the smallest bubble is kept.
    """

    memory_factor: ClassVar[int] = 1  # of 1F1B's peak
    by_hand: ClassVar[tuple[type[ZeroBubbleH1], ...]] = (ZeroBubbleH1,)

    @property
    def post_validates(self) -> bool:
        """The last passes end at other times on each device."""
        return True

    @property
    def splits_backward(self) -> bool:
        """Every backward is in two halves."""
        return True

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """The best of the plans; of equals, the first."""
        times = times or SlotTimes.uniform(self.stages(devices))
        limit_bytes = self.memory_factor * max((devices - i) * size for i, size in enumerate(times.activation_bytes))
        limit_bytes *= 1 + ROUNDING
        best = _Best(self, devices, micro_batches, times)
        for kind in self.by_hand:
            programs = kind().programs(devices, micro_batches)
            if _peak_bytes(programs, times) <= limit_bytes:
                best.challenge(partial(_in_order, programs))
        for late_warm_up, skip_forwards in product((True, False), repeat=2):
            choices = Choices(late_warm_up=late_warm_up, skip_forwards=skip_forwards)
            best.challenge(partial(by_rules, limit_bytes=limit_bytes, choices=choices))
        return best.programs


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroBubble2p(ZeroBubble1p):
    """The same heuristic with twice 1F1B's peak memory, enough for no bubble where F = B = W."""

    memory_factor: ClassVar[int] = 2
    by_hand: ClassVar[tuple[type[ZeroBubbleH1], ...]] = (ZeroBubbleH1, ZeroBubbleH2)


@dataclass(slots=True)
class _Best:
    """The plan whose longest bubble is the shortest so far; of equals the first."""

    schedule: PipelineSchedule
    devices: int
    micro_batches: int
    times: SlotTimes
    programs: Programs = ()
    bubble_s: float = inf

    def challenge(self, rules: Callable[[Plan], Choose]) -> None:
        """Plan by these rules, and keep what comes out if it is better."""
        plan = Plan(self.schedule, self.devices, self.micro_batches, self.times)
        if plan.run(rules(plan), self.bubble_s):
            self.programs, self.bubble_s = plan.programs(), max(plan.bubble_s)


def _in_order(programs: Programs, plan: Plan) -> Choose:
    """Every device its next slot as soon as it can start."""
    ahead = [deque(program) for program in programs]

    def choose(device: int, now_s: float) -> Slot | None:
        if not ahead[device]:
            return None
        slot = ahead[device][0]
        can_start = slot.work == BACKWARD_WEIGHT or plan.ready_s(slot) <= now_s
        return ahead[device].popleft() if can_start else None

    return choose


def _peak_bytes(programs: Programs, times: SlotTimes) -> float:
    """The most that a device holds of activations at once."""
    peak = 0.0
    for program in programs:
        held = 0.0
        for work, _, stage in program:
            if work == FORWARD:
                held += times.activation_bytes[stage]
                peak = max(peak, held)
            elif work == BACKWARD_INPUT:
                held -= times.activation_bytes[stage] - times.weight_input_bytes[stage]
            else:
                held -= times.weight_input_bytes[stage]
    return peak
