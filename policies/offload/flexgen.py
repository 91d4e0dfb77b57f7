"""FlexGen (arXiv 2303.06865): large blocks of sequences pass a layer before the next layer's weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from hardware_models.errors import FleetcastError
from policies.offload.block_plan import BlockPlan, Job, Prices, Split, Tier

Count = Annotated[int, Field(ge=1, le=100_000)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Percents = list[Percent]  # on GPU, in host memory; the rest is on drives


def split(key: str, percents: Percents) -> Split:
    """[GPU, host] in percent as shares, drives' the rest; raises FleetcastError."""
    if len(percents) != 2 or sum(percents) > 100.0 + 1e-6:
        raise FleetcastError(
            f"offload.policy.{key} = {percents}: give two percentages, on GPU and in host memory, of 100 together at"
            " most; the rest is on drives"
        )
    gpu, host = (percent / 100.0 for percent in percents)
    return Split(gpu, host, max(0.0, 1.0 - gpu - host))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexGen:
    """The nine percentages, as its command line takes them, and what goes with them."""

    weights: Percents
    kv_cache: Percents
    activations: Percents
    gpu_batch_size: Count
    num_gpu_batches: Count = 1
    compress_weights: bool = False
    compress_cache: bool = False
    cpu_attention: bool = False
    overlap: bool = True
    whole_tensors: bool = False

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """As it says; raises FleetcastError for what the code cannot do."""
        if self.cpu_attention and self.compress_cache:
            raise FleetcastError(
                "offload.policy.cpu_attention: the CPU reads keys and values as they are; leave out compress_cache"
            )
        return BlockPlan(
            weights=split("weights", self.weights),
            kv=split("kv_cache", self.kv_cache),
            activations=split("activations", self.activations),
            gpu_batch_size=self.gpu_batch_size,
            num_gpu_batches=self.num_gpu_batches,
            compress_weights=self.compress_weights,
            compress_kv=self.compress_cache,
            cpu_attention=self.cpu_attention,
            overlap="synchronised" if self.overlap else "none",
            whole_tensors=self.whole_tensors,
        )
