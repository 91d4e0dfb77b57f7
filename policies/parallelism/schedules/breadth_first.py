"""Breadth-first pipelines (Lamy-Poirier, 2211.05953): all micro-batches through a chunk, then the next chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from policies.parallelism.schedules.schedule import BACKWARD, FORWARD, PipelineSchedule, Programs, Slot, SlotTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class BreadthFirst(PipelineSchedule):
    """A chunk's gradients are whole as soon as its last micro-batch is back, and so can be reduced behind the others.

    Bubble (p - 1) / (v m) of the ideal time for m >= p; activations of all m micro-batches at once.
    """

    chunks: Annotated[int, Interval(ge=1)] = 2

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """Chunks in order forward, in reverse backward; in each, every micro-batch in order."""
        rows = []
        for device in range(devices):
            stages = range(device, devices * self.chunks, devices)
            row = [Slot(FORWARD, micro_batch, stage) for stage in stages for micro_batch in range(micro_batches)]
            row += [
                Slot(BACKWARD, micro_batch, stage) for stage in reversed(stages) for micro_batch in range(micro_batches)
            ]
            rows.append(tuple(row))
        return tuple(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layered(BreadthFirst):
    """Layered gradient accumulation on a modular pipeline (Lamy-Poirier, 2106.02679): breadth first, a chunk a layer.

    A layer's weights are gathered once, and its gradients reduced once, for all micro-batches of a step.
    """
