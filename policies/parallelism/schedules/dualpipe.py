"""DualPipe (DeepSeek-V3, 2412.19437): micro-batches enter a pipeline from both its ends at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules.schedule import (
    BACKWARD,
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DualPipe(PipelineSchedule):
    """Even micro-batches run through devices 0 to p - 1, odd ones through p - 1 to 0.

    Each device holds two of the model's p stages, so all parameters are there twice. A forward of one direction and a
    backward of the other run as a pair, the communication of one behind the computation of the other (`joined`). Bubble
    (p / 2 - 1)(F&B + B - 3W), with B the whole backward and F&B the pair; activations of p + 1 micro-batches (table 2
    of the report; the steps are those of DeepSeek's published code).
    """

    @property
    def copies(self) -> int:
        """One for each direction."""
        return 2

    @property
    def splits_backward(self) -> bool:
        """Some: at the ends, where the weights fill gaps."""
        return True

    def check(self, devices: int, micro_batches: int, where: str) -> None:
        """Raises ImpossibleError unless both are even, with at least two micro-batches a device."""
        PipelineSchedule.check(self, devices, micro_batches, where)
        if devices % 2:
            raise ImpossibleError(f"{where}: 'dualpipe' needs an even number of pipeline stages, not {devices}")
        if micro_batches % 2 or micro_batches < 2 * devices:
            raise ImpossibleError(
                f"{where}: 'dualpipe' needs an even number of micro-batches, at least {2 * devices} for {devices}"
                f" pipeline stages, not {micro_batches}"
            )

    def device_of(self, stage: int, devices: int, micro_batch: int = 0) -> int:
        """Counted from the end at which the micro-batch enters."""
        return devices - 1 - stage if micro_batch % 2 else stage

    def stages_on(self, device: int, devices: int) -> tuple[int, ...]:
        """One stage for each direction."""
        return tuple(sorted((device, devices - 1 - device)))

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """The eight steps of the published code."""
        return tuple(_Device(device, devices).steps(micro_batches // 2) for device in range(devices))

    def joined(self, programs: Programs) -> frozenset[Slot]:
        """Every forward right before a whole backward, but for the first on the two middle devices."""
        found = set()
        middle = (len(programs) // 2 - 1, len(programs) // 2)
        for device, row in enumerate(programs):
            pairs = [a for a, b in pairwise(row) if a.work == FORWARD and b.work == BACKWARD]
            found.update(pairs[1:] if device in middle else pairs)
        return frozenset(found)


@dataclass(slots=True)
class _Device:
    """One device's program in the making; its near direction is the one that reaches it sooner."""

    device: int
    devices: int
    row: list[Slot] = field(default_factory=list)
    done: dict[tuple[bool, bool], int] = field(default_factory=dict)  # passes, by (near, forward)
    pending: deque[Slot] = field(default_factory=deque)

    def steps(self, each_way: int) -> tuple[Slot, ...]:
        """The program for `each_way` micro-batches from either end."""
        from_end = min(self.device, self.devices - 1 - self.device)
        to_middle = self.devices // 2 - 1 - from_end
        for _ in range(2 * to_middle):
            self._forward(near=True)
        for _ in range(from_end + 1):
            self._forward(near=True)
            self._forward(near=False)
        for _ in range(to_middle):
            self._backward(near=False, split=True)
            self._weight()
            self._forward(near=False)
        for _ in range(each_way - self.devices + from_end + 1):
            self._pair(near=True)
            self._pair(near=False)
        for _ in range(to_middle):
            self._backward(near=False)
            self._pair(near=False)
        for index in range(2 * (from_end + 1)):  # the later half splits its backwards
            self._backward(near=index % 2 == 1, split=index > from_end)
        for _ in range(to_middle):
            self._weight()
            self._backward(near=True, split=True)
        for _ in range(from_end + 1):
            self._weight()
        return tuple(self.row)

    def _pair(self, *, near: bool) -> None:
        """A forward of one direction, a whole backward of the other."""
        self._forward(near=near)
        self._backward(near=not near)

    def _slot(self, work: str, *, near: bool) -> Slot:
        key = near, work == FORWARD
        count = self.done[key] = self.done.get(key, 0) + 1
        from_last = near == (self.device >= self.devices // 2)
        stage = self.devices - 1 - self.device if from_last else self.device
        return Slot(work, 2 * (count - 1) + from_last, stage)

    def _forward(self, *, near: bool) -> None:
        self.row.append(self._slot(FORWARD, near=near))

    def _backward(self, *, near: bool, split: bool = False) -> None:
        slot = self._slot(BACKWARD_INPUT if split else BACKWARD, near=near)
        self.row.append(slot)
        if split:
            self.pending.append(Slot(BACKWARD_WEIGHT, slot.micro_batch, slot.stage))

    def _weight(self) -> None:
        self.row.append(self.pending.popleft())
