"""Attention inside computational drives, beside the flash that holds the KV cache: InstInfer (arXiv 2409.04992)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from hardware_models.errors import FleetcastError
from policies.offload.batches_graph import BatchesGraph
from policies.offload.block_plan import ON_GPU, BlockPlan, Job, Part, Prices, Split, Tier
from policies.offload.block_tasks import Moved, Turn
from policies.offload.flexgen import Count

ELEMENT_BYTES = 2.0  # of keys and values on flash


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePlan(BlockPlan):
    """What `StorageGraph` writes."""

    drives: int
    internal_bytes_per_s: float
    page_bytes: float
    density: float
    run_tokens: int
    heads: int
    head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageAttention:
    """Weights on the GPU, KV cache in drives that attend to it; heads are spread over them.

    internal_bytes_per_s: of a drive's flash channels together. density below 1: SparF, which first reads that share of
    the keys' channels of all tokens, then keys and values of that share of the tokens, in whole pages; run_tokens:
    how many of them follow each other, on average. kv_heads, head_dim: of the model.
    """

    batch_size: Count
    num_gpu_batches: Count = 2
    drives: Count = 1
    internal_bytes_per_s: Annotated[float, Field(ge=1e6, le=1e15)] = 11.2e9
    page_bytes: Annotated[float, Field(ge=512.0, le=1e9)] = 4096.0
    density: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    run_tokens: Count = 4
    kv_heads: Count = 32
    head_dim: Count = 128

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """Raises FleetcastError for heads that the model does not have, and for batches that are not alike."""
        if self.batch_size % self.num_gpu_batches:
            raise FleetcastError(
                f"offload.policy.batch_size = {self.batch_size}: {self.num_gpu_batches} batches take turns and are as"
                f" large as each other; give a multiple of num_gpu_batches, or another number of them"
            )
        cached = next(part.kv_bytes for part in job.parts if part.kv_bytes)
        if abs(2.0 * self.kv_heads * self.head_dim * ELEMENT_BYTES - cached) > 1.0:
            raise FleetcastError(
                f"offload.policy.kv_heads = {self.kv_heads}: with head_dim {self.head_dim} a token of a layer has"
                f" {2.0 * self.kv_heads * self.head_dim * ELEMENT_BYTES:,.0f} bytes, and the model caches"
                f" {cached:,.0f}; give both as the model has them, in 16 bits"
            )
        return StoragePlan(
            weights=ON_GPU,
            kv=Split(0.0, 0.0, 1.0),
            activations=ON_GPU,
            gpu_batch_size=self.batch_size // self.num_gpu_batches,
            num_gpu_batches=self.num_gpu_batches,
            overlap="asynchronous",
            drives=self.drives,
            internal_bytes_per_s=self.internal_bytes_per_s,
            page_bytes=self.page_bytes,
            density=self.density,
            run_tokens=self.run_tokens,
            heads=self.kv_heads,
            head_dim=self.head_dim,
        )


def pages(plan: StoragePlan, tokens: int) -> float:
    """That one head of one sequence touches for one new token; expected, for tokens chosen in runs."""
    a_token = plan.head_dim * ELEMENT_BYTES
    whole = tokens * a_token / plan.page_bytes  # of keys, and again of values
    if plan.density == 1.0:
        return 2.0 * whole
    channels = max(1.0, plan.density * plan.head_dim) * max(1.0, tokens * ELEMENT_BYTES / plan.page_bytes)
    runs = max(1.0, plan.page_bytes / a_token / plan.run_tokens)
    return float(channels + 2.0 * whole * (1.0 - (1.0 - plan.density) ** runs))


class StorageGraph(BatchesGraph):
    """While drives attend for one batch, the GPU computes another; weights stay on the GPU."""

    def __init__(self, job: Job, plan: StoragePlan, prices: Prices) -> None:
        super().__init__(job, plan, prices)
        self._storage = plan

    def _store(self, turn: Turn, part: Part, computed: int) -> int:
        """Keys and values of prompts go to the drives themselves, past host memory."""
        size = part.kv_bytes * self._plan.gpu_batch_size * self._job.prompt_tokens
        written_s = self._prices.copy_s("write", size) * self._prices.drives / self._storage.drives
        seconds = max(self._prices.copy_s("d2h", size), written_s)
        task = self._task("drives", seconds, "store_cache", [computed], turn)
        self.moved += [Moved(task, "d2h", size), Moved(task, "write", size)]
        return task

    def _attend(self, turn: Turn, part: Part, computed: int) -> int:
        """Queries, keys and values of the new token go down, drives read and attend, outputs come up."""
        plan, sequences = self._storage, self._plan.gpu_batch_size
        hidden = self._job.hidden_bytes * sequences
        sent = self._add("d2h", hidden + part.kv_bytes * sequences, "compute", [computed], turn)
        tokens = self._job.prompt_tokens + turn.step
        heads = -(-plan.heads // plan.drives)  # of the drive that has the most
        touched = pages(plan, tokens) * plan.page_bytes * sequences
        task = self._task("drives", heads * touched / plan.internal_bytes_per_s, "load_cache", [sent], turn)
        self.moved.append(Moved(task, "write", part.kv_bytes * sequences))
        self.counts["flash pages"] += round(plan.heads * touched / plan.page_bytes)
        return self._add("h2d", hidden, "compute", [task], turn)
