"""Parallel training: layouts, pipeline schedules, what is sharded and what is computed again."""

from policies.parallelism.gradient_reduce import GRADIENT_REDUCE
from policies.parallelism.hierarchical import HybridShard, ThreeLevel, ZeroPlusPlus
from policies.parallelism.layout import Layout, check_layout
from policies.parallelism.recompute import RECOMPUTE, Recompute
from policies.parallelism.schedules import SCHEDULES, PipelineSchedule
from policies.parallelism.sharding import Sharding, Zero1, Zero2, Zero3

__all__ = [
    "GRADIENT_REDUCE",
    "RECOMPUTE",
    "SCHEDULES",
    "SHARDING",
    "HybridShard",
    "Layout",
    "PipelineSchedule",
    "Recompute",
    "Sharding",
    "ThreeLevel",
    "Zero1",
    "Zero2",
    "Zero3",
    "ZeroPlusPlus",
    "check_layout",
]

SHARDING: dict[str, type[Sharding]] = {
    "none": Sharding,
    "zero1": Zero1,
    "zero2": Zero2,
    "zero3": Zero3,
    "fsdp": Zero3,
    "hybrid_shard": HybridShard,
    "zero_plus_plus": ZeroPlusPlus,
    "three_level": ThreeLevel,
}
