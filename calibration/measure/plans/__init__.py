"""Which points to measure: one list a kind, coarse grids at level 0, refinements above."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from calibration.measure.order import interleave
from calibration.measure.plans import dense, experts, inference_attention, small, system
from calibration.measure.plans.target import PlanTarget
from calibration.measure.point import Point

PLANS: dict[str, Callable[[PlanTarget], Iterable[Point]]] = {
    "power": system.power,
    "gemm": dense.gemm,
    "attention_prefill": inference_attention.prefill,
    "attention_decode": inference_attention.decode,
    "moe": experts.moe,
    "elementwise": dense.elementwise,
    "memory": system.memory,
    "copy": system.copy,
    "host": system.host,
    "collective": system.collective,
    "storage": system.storage,
    "cpu": system.cpu,
}


def plan(target: PlanTarget, kinds: Collection[str] = ()) -> list[Point]:
    """Points of `kinds` (all by default) for a machine, in the order they should be measured."""
    chosen = [name for name in PLANS if not kinds or name in kinds]
    on_cpu = small.PLANS
    lists = [PLANS[name] if target.is_gpu or name not in on_cpu else on_cpu[name] for name in chosen]
    return interleave(point for points in lists for point in points(target))
