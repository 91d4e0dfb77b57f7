"""Who computes each expert of a layer: CPU and GPU side by side, while the link carries experts to the GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["hybrid", "cpu", "copy"]


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Seconds of one expert by its tokens, of its copy, and until GPU and link are free for the first."""

    cpu_s: Callable[[int], float]
    gpu_s: Callable[[int], float]
    copy_s: float
    gpu_busy_s: float = 0.0
    link_busy_s: float = 0.0


@dataclass(slots=True)
class LayerSchedule:
    """Experts of each worker in its order; times are from the moment at which the router has spoken."""

    cached: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    on_cpu: list[int] = field(default_factory=list)
    cpu_end_s: float = 0.0
    gpu_end_s: float = 0.0
    link_end_s: float = 0.0

    @property
    def end_s(self) -> float:
        """Of the layer."""
        return max(self.cpu_end_s, self.gpu_end_s)


def schedule(how: Schedule, loads: Mapping[int, int], cached: set[int], times: LayerTimes) -> LayerSchedule:
    """Of a layer's loads (tokens by expert).

    cpu: the CPU takes what is not cached. copy: the link takes it to the GPU. hybrid: HybriMoE's greedy simulation of
    three timelines (arXiv 2504.05897, section 4.2): of what is not cached the CPU takes the lowest load next, or the
    link the highest, whichever of the two is done first.
    """
    heavy_first = sorted(loads, key=lambda expert: (-loads[expert], expert))
    plan = LayerSchedule(gpu_end_s=times.gpu_busy_s, link_end_s=times.link_busy_s)
    plan.cached = [expert for expert in heavy_first if expert in cached]
    for expert in plan.cached:
        plan.gpu_end_s += times.gpu_s(loads[expert])
    left = [expert for expert in heavy_first if expert not in cached]
    while left:
        on_cpu_s = plan.cpu_end_s + times.cpu_s(loads[left[-1]])
        arrives_s = plan.link_end_s + times.copy_s
        moved_s = max(arrives_s, plan.gpu_end_s) + times.gpu_s(loads[left[0]])
        if how == "cpu" or (how == "hybrid" and on_cpu_s <= moved_s):
            plan.on_cpu.append(left.pop())
            plan.cpu_end_s = on_cpu_s
        else:
            plan.moved.append(left.pop(0))
            plan.link_end_s, plan.gpu_end_s = arrives_s, moved_s
    return plan
