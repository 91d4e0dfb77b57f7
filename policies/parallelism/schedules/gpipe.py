"""GPipe (Huang et al., 1811.06965): all forwards, then all backwards."""

from __future__ import annotations

from dataclasses import dataclass

from policies.parallelism.schedules.schedule import BACKWARD, FORWARD, PipelineSchedule, Programs, Slot, SlotTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class GPipe(PipelineSchedule):
    """Backwards go in reverse, the last micro-batch first (the paper's figure 2).

    Bubble (p - 1) / m of the ideal time; activations of all m micro-batches at once.
    """

    def programs(self, devices: int, micro_batches: int, times: SlotTimes | None = None) -> Programs:
        """Every micro-batch forward, then every micro-batch backward."""
        rows = []
        for stage in range(devices):
            row = [Slot(FORWARD, micro_batch, stage) for micro_batch in range(micro_batches)]
            row += [Slot(BACKWARD, micro_batch, stage) for micro_batch in reversed(range(micro_batches))]
            rows.append(tuple(row))
        return tuple(rows)
