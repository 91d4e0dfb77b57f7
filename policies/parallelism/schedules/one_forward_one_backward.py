"""1F1B (PipeDream-Flush; Megatron-LM, Narayanan et al., 2104.04473): a backward as soon as there is one."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules.schedule import BACKWARD, FORWARD, PipelineSchedule, Programs, Slot, SlotTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class OneForwardOneBackward(PipelineSchedule):
    """p - i - 1 forwards to warm up on device i, then forwards and backwards in turn.

    Bubble (p - 1) / m of the ideal time; activations of min(p - i, m) micro-batches on device i.
    """

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """Warm up, alternate, cool down."""
        return tuple(_one_device(devices, micro_batches, stage) for stage in range(devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPipeline(OneForwardOneBackward):
    """Gradient accumulation on a device that holds all layers: forward and backward of each micro-batch in turn."""

    def check(self, devices: int, micro_batches: int, where: str) -> None:
        """Raises ImpossibleError where there is more than one device."""
        PipelineSchedule.check(self, devices, micro_batches, where)
        if devices > 1:
            raise ImpossibleError(f"{where}: 'none' is for one stage, not {devices}; choose a schedule such as '1f1b'")


def _one_device(devices: int, micro_batches: int, stage: int) -> tuple[Slot, ...]:
    warm_up = min(devices - stage - 1, micro_batches)
    forwards = [Slot(FORWARD, micro_batch, stage) for micro_batch in range(micro_batches)]
    backwards = [Slot(BACKWARD, micro_batch, stage) for micro_batch in range(micro_batches)]
    row = forwards[:warm_up]
    for pair in zip(forwards[warm_up:], backwards, strict=False):
        row += pair
    row += backwards[micro_batches - warm_up :]
    return tuple(row)
