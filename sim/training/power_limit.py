"""At which clock a GPU can keep up a training step: it lowers its clock until it draws no more than its power limit.

Microbenchmarks of a few milliseconds run at boost; a step of seconds does not. The clock follows from what the step
does and from the device's power model, which is fitted to other measurements (`hardware_models/power.py`).
"""

from __future__ import annotations

from hardware_models.power import Activity, power_model
from hardware_models.specs import GpuSpec
from sim.training.pricing import Spent


def sustained_clock(work: Spent, gpu: GpuSpec) -> float:
    """Share of boost at which passes that spend `work` at boost draw no more than the device's limit."""
    if not work.seconds:
        return 1.0
    activity = Activity(
        busy=1.0,
        compute=min(1.0, work.peak_s / work.seconds),
        memory=min(1.0, work.moved_bytes / work.seconds / gpu.memory_bandwidth_bytes_per_s),
    )
    return float(power_model(gpu).clock_within(activity, gpu.tdp_w))
