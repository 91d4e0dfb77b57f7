"""Parallel training: layouts, pipeline schedules, what is sharded and what is computed again."""

from policies.parallelism.layout import Layout, check_layout
from policies.parallelism.recompute import RECOMPUTE, Recompute
from policies.parallelism.schedules import SCHEDULES, PipelineSchedule
from policies.parallelism.sharding import SHARDING, Sharding

__all__ = [
    "RECOMPUTE",
    "SCHEDULES",
    "SHARDING",
    "Layout",
    "PipelineSchedule",
    "Recompute",
    "Sharding",
    "check_layout",
]
