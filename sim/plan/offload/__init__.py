"""Plans of offloaded training and inference: which policy on a machine, and what to buy next."""

from sim.plan.offload.planner import OffloadPlan, plan_offload

__all__ = ["OffloadPlan", "plan_offload"]
