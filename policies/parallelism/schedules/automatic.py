"""ZB-1p and ZB-2p: zero-bubble schedules found from measured times under a limit of memory (Qi et al., 2401.10241)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import ClassVar

from policies.parallelism.schedules.contest import Candidate, best_plan, in_order
from policies.parallelism.schedules.heuristic import Choices, by_rules
from policies.parallelism.schedules.schedule import (
    BACKWARD_INPUT,
    FORWARD,
    PipelineSchedule,
    Programs,
    SlotTimes,
)
from policies.parallelism.schedules.zero_bubble import SplitOneForwardOneBackward, ZeroBubbleH1, ZeroBubbleH2

ROUNDING = 1e-9  # relative, on bytes that are added and subtracted again
REMEMBERED = 8  # plans of whole steps; a large one takes a tenth of a gigabyte


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroBubble1p(PipelineSchedule):
    """The paper's heuristic (its section 3.1), with p activations of the largest stage as every device's limit.

    Forwards fill the warm-up; then a forward and a backward in turn; weights' gradients where there is a gap that they
    fit, where memory is out, or where waiting would make the longest span longer. What the rules leave open is tried
    both ways, and so are 1F1B and the schedules by hand if they fit; the plan with the shortest step is kept, a step
    lasting as long as the longest span of a device.
    """

    memory_factor: ClassVar[int] = 1  # of p activations: 1F1B's peak

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
        return _planned(self, devices, micro_batches, times or SlotTimes.uniform(self.stages(devices)))

    def candidates(self, devices: int, times: SlotTimes) -> list[Candidate]:
        """Ways to plan, each within the limit for any number of micro-batches."""
        limit_bytes = self.memory_factor * devices * max(times.activation_bytes) * (1 + ROUNDING)
        by_hand = [
            kind()
            for kind in (SplitOneForwardOneBackward, ZeroBubbleH1, ZeroBubbleH2)
            if _peak_bytes(kind().programs(devices, 4 * devices), times) <= limit_bytes
        ]
        choices = [
            Choices(late_warm_up=late_warm_up, skip_forwards=skip_forwards)
            for late_warm_up, skip_forwards in product((False, True), repeat=2)
        ]
        found: list[Candidate] = [partial(by_rules, limit_bytes=limit_bytes, choices=one) for one in choices]
        found += [partial(in_order, schedule) for schedule in by_hand]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroBubble2p(ZeroBubble1p):
    """The same heuristic with twice the memory, enough for no bubble where F = B = W."""

    memory_factor: ClassVar[int] = 2


@lru_cache(maxsize=REMEMBERED)
def _planned(schedule: ZeroBubble1p, devices: int, micro_batches: int, times: SlotTimes) -> Programs:
    return best_plan(schedule, devices, micro_batches, times, schedule.candidates(devices, times))


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
