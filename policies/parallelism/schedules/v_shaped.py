"""V-Min, V-Half and V-ZB (Qi et al., 2405.15362): the model goes down the devices and back up, which evens memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.parallelism.schedules.building_block import Offsets, repeat, smallest_block
from policies.parallelism.schedules.filling import fill
from policies.parallelism.schedules.schedule import PipelineSchedule, Programs, SlotTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class VShaped(PipelineSchedule):
    """Two chunks a device, the first and the last stage on device 0; subclasses say how tight the block is.

    Activations are counted in 1F1B's unit, a micro-batch through both chunks of a device, each held until its weights'
    gradients are done. Bubbles are of each device's own span, with all six passes of a tick.
    """

    offsets: ClassVar[Offsets]

    @property
    def chunks(self) -> int:
        """Two: one on the way down, one on the way back up."""
        return 2

    @property
    def post_validates(self) -> bool:
        """The last passes end at other times on each device."""
        return True

    @property
    def splits_backward(self) -> bool:
        """Every backward is in two halves."""
        return True

    def device_of(self, stage: int, devices: int, micro_batch: int = 0) -> int:
        """Down the devices, then up."""
        return min(stage, 2 * devices - 1 - stage)

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """The block for every micro-batch, and its ends filled; planned with ticks, whatever the times."""
        block = smallest_block(self.offsets, devices)
        most = max(passes.peak() for passes in block)
        return fill(repeat(block, micro_batches), self, micro_batches, most)


@dataclass(frozen=True, slots=True, kw_only=True)
class VMin(VShaped):
    """Neighbours a tick apart: a third of 1F1B's activations, (p + 2) / 3 rounded up; bubble about 2/3 of 1F1B's."""

    offsets: ClassVar[Offsets] = Offsets(down=1, up=1, back_down=1, back_up=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class VHalf(VShaped):
    """Neighbours one or two ticks apart: half of 1F1B's activations, (p + 2) / 2 rounded down; bubble about half."""

    offsets: ClassVar[Offsets] = Offsets(down=2, up=1, back_down=2, back_up=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroBubbleV(VShaped):
    """Neighbours two or four ticks apart: no bubble where all six passes take as long, with 1F1B's p activations."""

    offsets: ClassVar[Offsets] = Offsets(down=4, up=2, back_down=4, back_up=2)
