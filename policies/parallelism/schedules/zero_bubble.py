"""ZB-H1 and ZB-H2, the zero-bubble schedules written by hand (Qi et al., 2401.10241)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from policies.parallelism.schedules.one_forward_one_backward import OneForwardOneBackward
from policies.parallelism.schedules.schedule import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroBubbleH1(PipelineSchedule):
    """1F1B with split backwards; device i does weights i micro-batches late, so that its idle end is filled.

    Bubble (p - 1)(F + B - W), with B the backward of the inputs and W of the weights, where F >= W; as many activations
    as 1F1B's first device, on every device, of which i are past B (tables 1 and 2 of the paper).
    """

    depth: ClassVar[int] = 1  # forwards that run ahead of the first backward, a later stage

    @property
    def post_validates(self) -> bool:
        """The last passes end at other times on each device."""
        return True

    @property
    def splits_backward(self) -> bool:
        """Every backward is in two halves."""
        return True

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """Warm up; backward, weights of an earlier micro-batch, forward; then the weights that are left."""
        return tuple(self._one_device(devices, micro_batches, stage) for stage in range(devices))

    def _one_device(self, devices: int, micro_batches: int, stage: int) -> tuple[Slot, ...]:
        warm_up = min(self.depth * (devices - stage - 1) + 1, micro_batches)
        late = min(self.depth * stage, micro_batches)
        row = [Slot(FORWARD, micro_batch, stage) for micro_batch in range(warm_up)]
        for micro_batch in range(micro_batches):
            row.append(Slot(BACKWARD_INPUT, micro_batch, stage))
            if micro_batch >= late:
                row.append(Slot(BACKWARD_WEIGHT, micro_batch - late, stage))
            if warm_up + micro_batch < micro_batches:
                row.append(Slot(FORWARD, warm_up + micro_batch, stage))
        row += [Slot(BACKWARD_WEIGHT, micro_batch, stage) for micro_batch in range(micro_batches - late, micro_batches)]
        return tuple(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOneForwardOneBackward(ZeroBubbleH1):
    """1F1B whose backwards send what they have after their first half, and do the weights at once."""

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """1F1B's, with two slots for each backward."""
        whole = OneForwardOneBackward().programs(devices, micro_batches)
        return tuple(tuple(chain.from_iterable(_halves(slot) for slot in row)) for row in whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroBubbleH2(ZeroBubbleH1):
    """Warms up with twice the forwards: no bubble where F = B = W, for twice the activations.

    Bubble (p - 1)(F + B - 2W) where F >= W and m >= 2p - 1, activations of 2p - 1 micro-batches. Devices end as late as
    they start, one after the other, so the bubble is of each device's own span: the next step's forwards fill the rest,
    for which the paper checks gradients after the optimizer has stepped.
    """

    depth: ClassVar[int] = 2


def _halves(slot: Slot) -> tuple[Slot, ...]:
    if slot.work == FORWARD:
        return (slot,)
    return slot._replace(work=BACKWARD_INPUT), slot._replace(work=BACKWARD_WEIGHT)
