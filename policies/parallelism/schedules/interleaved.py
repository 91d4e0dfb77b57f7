"""Interleaved 1F1B (Megatron-LM, Narayanan et al., 2104.04473): devices hold several chunks and go depth first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules.schedule import BACKWARD, FORWARD, PipelineSchedule, Programs, Slot, SlotTimes

Chunks = Annotated[int, Interval(ge=2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleaved(PipelineSchedule):
    """Micro-batches go in groups of p; a group passes all of a device's chunks before the next one starts.

    Bubble (p - 1) / (v m) of the ideal time; device i holds activations of (v - 1) p + 2 (p - i) - 1 passes through a
    chunk, or v m where that is fewer. With m = p Megatron-LM runs every forward before the first backward.
    """

    chunks: Chunks = 2

    def check(self, devices: int, micro_batches: int, where: str) -> None:
        """Raises ImpossibleError for one device, or micro-batches that do not divide into groups."""
        PipelineSchedule.check(self, devices, micro_batches, where)
        if devices < 2:
            raise ImpossibleError(f"{where}: 'interleaved_1f1b' needs at least 2 stages, not {devices}")
        if micro_batches % devices:
            raise ImpossibleError(
                f"{where}: 'interleaved_1f1b' needs micro-batches in multiples of the {devices} pipeline stages, not"
                f" {micro_batches}"
            )

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """Warm up, alternate, cool down, as Megatron-LM counts them."""
        return tuple(self._one_device(devices, micro_batches, device) for device in range(devices))

    def _one_device(self, devices: int, micro_batches: int, device: int) -> tuple[Slot, ...]:
        forwards, backwards = [], []
        last = self.chunks - 1
        for first in range(0, micro_batches, devices):
            group = range(first, first + devices)
            for chunk in range(self.chunks):
                stage = chunk * devices + device
                forwards += [Slot(FORWARD, micro_batch, stage) for micro_batch in group]
                stage = (last - chunk) * devices + device
                backwards += [Slot(BACKWARD, micro_batch, stage) for micro_batch in group]
        total = len(forwards)
        warm_up = min((self.chunks - 1) * devices + 2 * (devices - device - 1), total)
        if micro_batches == devices:
            warm_up = total
        row = forwards[:warm_up]
        for pair in zip(forwards[warm_up:], backwards, strict=False):
            row += pair
        row += backwards[total - warm_up :]
        return tuple(row)
