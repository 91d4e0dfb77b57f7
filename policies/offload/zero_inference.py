"""Weights streamed layer by layer, KV cache on the GPU: DeepSpeed's ZeRO-Inference, and Hugging Face Accelerate.

ZeRO-Inference (DeepSpeed blog, 2022) keeps weights in pinned host memory or on drives, loads one layer ahead, and may
keep a part of the model on the GPU. Accelerate's hooks load a layer when it is to be computed, from memory that is not
pinned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from policies.offload.block_plan import ON_GPU, BlockPlan, Job, Prices, Split, Tier
from policies.offload.flexgen import Count, Percents, split

PARTS_OF_A_LAYER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroInference:
    """Weights on one tier, but for a share that is kept on the GPU."""

    batch_size: Count
    weights: Literal["host", "nvme"] = "host"
    gpu_weights_percent: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    prefetch_layers: Annotated[int, Field(ge=0, le=1000)] = 1

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """As it says."""
        gpu = self.gpu_weights_percent / 100.0
        away = (1.0 - gpu, 0.0) if self.weights == "host" else (0.0, 1.0 - gpu)
        return BlockPlan(
            weights=Split(gpu, *away),
            kv=ON_GPU,
            activations=ON_GPU,
            gpu_batch_size=self.batch_size,
            overlap="asynchronous",
            prefetch_parts=PARTS_OF_A_LAYER * self.prefetch_layers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerate:
    """Nothing ahead of time, nothing pinned; [GPU, host] percentages of the weights, the rest on drives."""

    batch_size: Count
    weights: Percents

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """As it says."""
        return BlockPlan(
            weights=split("weights", self.weights),
            kv=ON_GPU,
            activations=ON_GPU,
            gpu_batch_size=self.batch_size,
            overlap="asynchronous",
            prefetch_parts=0,
            pinned_weights=False,
        )
