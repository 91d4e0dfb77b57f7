"""Vocabulary parallelism (Yeung et al., 2411.05288): every device of a pipeline has a part of the output layer's rows.

A device's part is one more stage on it, p + i on device i: its forward makes scores (the paper's S), its backward
gradients (T). Between them all devices meet. After the last layer's forward its output goes to everybody; after the
scores all agree on each token's largest score and its sum of exponentials; and the gradients of that output are added
up where the last layer is, whose backward waits for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import ClassVar

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules.dependencies import owners
from policies.parallelism.schedules.meeting import AGREE, BROADCAST, REDUCE, Meeting
from policies.parallelism.schedules.schedule import BACKWARD, FORWARD, PipelineSchedule, Programs, Slot, SlotTimes
from policies.parallelism.schedules.vocabulary_plan import ORDERS, plan_rows

REMEMBERED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyParallel(PipelineSchedule):
    """1F1B whose last stage hands its output layer out to all devices; subclasses say how they meet."""

    meetings_before_backward: ClassVar[int]  # of all devices, from a micro-batch's scores to its last layer's backward
    stands_still: ClassVar[bool] = False  # do devices wait for what they exchange, or compute beside it?

    @property
    def divides_vocabulary(self) -> bool:
        """Each device has a part of it."""
        return True

    @property
    def gradient_in_scores(self) -> bool:
        """Does the first of the two passes make gradients of its input, too, before devices have agreed?"""
        return self.meetings_before_backward == 1

    def check(self, devices: int, micro_batches: int, where: str) -> None:
        """Raises ImpossibleError for one device."""
        PipelineSchedule.check(self, devices, micro_batches, where)
        if devices < 2:
            raise ImpossibleError(f"{where}: a vocabulary is divided over at least 2 pipeline stages, not {devices}")

    def on_the_way(self, device: int, devices: int) -> int:
        """Micro-batches whose activations a device holds at most: one more than 1F1B's for each meeting."""
        return devices - device + self.meetings_before_backward

    def stages_on(self, device: int, devices: int) -> tuple[int, ...]:
        """Its layers, and its part of the vocabulary."""
        return device, devices + device

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """Planned with the times, by the best of a few orders in which a device prefers its passes."""
        return _planned(self, devices, micro_batches, times or SlotTimes.uniform(self.all_stages(devices)))

    def meetings(self, programs: Programs) -> list[Meeting]:
        """Of each micro-batch two or three."""
        return list(self._meetings(programs))

    def _meetings(self, programs: Programs) -> Iterator[Meeting]:
        devices = len(programs)
        at = {slot: index for index, slot in enumerate(chain.from_iterable(programs))}
        owner, last = owners(programs), devices - 1
        for micro_batch in range(sum(slot == (FORWARD, slot.micro_batch, last) for slot in programs[last])):
            scores = tuple(at[Slot(FORWARD, micro_batch, devices + device)] for device in range(devices))
            gradients = tuple(at[Slot(BACKWARD, micro_batch, devices + device)] for device in range(devices))
            backward = (at[Slot(BACKWARD, micro_batch, last)],)
            yield Meeting(BROADCAST, (at[Slot(FORWARD, micro_batch, last)],), scores)
            if self.gradient_in_scores:
                yield Meeting(AGREE, scores, gradients + backward)
                continue
            yield Meeting(AGREE, scores, gradients)
            after = (index + 1 for index in gradients) if self.stands_still else ()
            there = tuple(index for index in after if index < len(owner) and owner[index] == owner[index - 1])
            yield Meeting(REDUCE, gradients, backward + tuple(index for index in there if index not in backward))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary1(VocabularyParallel):
    """The paper's algorithm 1: devices agree, then add up gradients; p + 2 - i activations on device i."""

    meetings_before_backward: ClassVar[int] = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary2(VocabularyParallel):
    """The paper's algorithm 2: gradients are made before devices agree, and scaled as they are added up; p + 1 - i
    activations on device i, and weights' gradients whenever there is time.
    """

    meetings_before_backward: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InterlacedVocabulary(VocabularyParallel):
    """The output layer as tensor-parallel ranks would compute it, all devices at once and standing still while they
    exchange: nnScaler's interlaced pipeline, as the paper reimplements it.

    Between two output layers every device does a forward and a backward, neighbours in opposite order. So a forward
    takes half such a turn from device to device and a backward a whole one, and 1.5 p activations are alive, not p.
    """

    meetings_before_backward: ClassVar[int] = 2
    stands_still: ClassVar[bool] = True

    def on_the_way(self, device: int, devices: int) -> int:
        """Turns from a micro-batch's forward to its backward."""
        above = devices - 1 - device
        return 1 + above + (above + 1) // 2

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """Turn by turn; planned without times."""
        return tuple(tuple(_turns(device, devices, micro_batches)) for device in range(devices))


def _turns(device: int, devices: int, micro_batches: int) -> Iterator[Slot]:
    """One device's slots: turn t ends with the output layer of micro-batch t."""
    above = devices - 1 - device
    share = devices + device
    for turn in range(-(above // 2), micro_batches + above + 1):
        passes = [Slot(BACKWARD, turn - 1 - above, device), Slot(FORWARD, turn + above // 2, device)]
        if above % 2:
            passes.reverse()
        yield from (slot for slot in passes if 0 <= slot.micro_batch < micro_batches)
        if 0 <= turn < micro_batches:
            yield Slot(FORWARD, turn, share)
            yield Slot(BACKWARD, turn, share)


@lru_cache(maxsize=REMEMBERED)
def _planned(schedule: VocabularyParallel, devices: int, micro_batches: int, times: SlotTimes) -> Programs:
    most = tuple(schedule.on_the_way(device, devices) for device in range(devices))
    plans = [plan_rows(micro_batches, times, most, order, one_meeting=schedule.gradient_in_scores) for order in ORDERS]
    return min(plans, key=lambda plan: plan.end_s).programs
