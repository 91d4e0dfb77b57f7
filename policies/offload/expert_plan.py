"""Policies that load experts by need: which tier has them all, which caches some, and who computes the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from hardware_models.errors import ImpossibleError
from policies.offload.block_plan import ON_GPU, BlockPlan, Job, Part, Prices, Routed, Split, Tier
from policies.offload.expert_schedule import Schedule
from policies.offload.flexgen import Count, Percent
from workloads.generators.expert_activation import ActivationLaw

Worker: TypeAlias = Literal["gpu", "cpu"]
Eviction: TypeAlias = Literal["static", "lru", "lfu", "lifo", "score"]
Layers = Annotated[int, Field(ge=0, le=8)]
VOCABULARY = ("embedding", "head")
KEPT_BYTES = 2.0
IN_HOST = Split(0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertPlan(BlockPlan):
    """What `policies.offload.expert_graph` writes; all but experts stays with the worker."""

    home: Literal["host", "storage"]  # of all experts
    worker: Worker
    eviction: Eviction
    slots: int  # experts in the worker's memory
    schedule: Schedule
    prefetch_layers: int
    early_router: bool
    law: ActivationLaw
    read_chunk_bytes: float | None
    read_depth: int
    vocabulary_bytes: float | None = None  # of an element of embedding and head; None: as the model keeps them

    @property
    def near(self) -> Tier:
        """The worker's memory."""
        return "gpu" if self.worker == "gpu" else "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridExperts:
    """All experts in host memory, some in GPU memory: HybriMoE, and by its keys KTransformers or loading on demand."""

    batch_size: Count = 1
    cached_experts_percent: Percent | None = None  # None: as many as fit
    cache: Eviction = "score"
    schedule: Schedule = "hybrid"
    prefetch_layers: Layers = 3
    pinned: bool = True
    activation: ActivationLaw | None = None  # None: the law's defaults

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """Raises ImpossibleError for a model without experts, or a GPU without room for one."""
        routed = routed_parts(job)
        free = budgets["gpu"] - _beside(job, prices, self.batch_size, on_gpu=True)
        free -= max(one.experts * one.expert_bytes for _, one in routed)  # that may pass without a slot
        slots = slots_of(routed, self.cached_experts_percent, free, "GPU memory")
        return ExpertPlan(
            weights=_shares(job, routed, slots, IN_HOST, ON_GPU),
            kv=ON_GPU,
            activations=ON_GPU,
            gpu_batch_size=self.batch_size,
            overlap="asynchronous",
            home="host",
            worker="gpu",
            eviction=self.cache,
            slots=slots,
            schedule=self.schedule,
            prefetch_layers=self.prefetch_layers,
            pinned_weights=self.pinned,
            early_router=False,
            law=self.activation or ActivationLaw(),
            read_chunk_bytes=None,
            read_depth=1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsOnStorage:
    """All experts on drives, some in the worker's memory: SmallThinker with a router before attention, or on demand."""

    batch_size: Count = 1
    worker: Worker = "cpu"
    cached_experts_percent: Percent | None = None  # None: as many as fit
    cache: Eviction = "lru"
    early_router: bool = False
    prefetch_layers: Layers = 0
    read_chunk_bytes: Annotated[float, Field(ge=512)] | None = None  # None: an expert at once
    read_depth: Count = 8  # reads that are under way at once
    overlap: bool = True  # False: whoever computes waits for each read, as on a mapped file
    vocabulary_bytes: Annotated[float, Field(gt=0.0, le=4.0)] | None = None
    activation: ActivationLaw | None = None  # None: the law's defaults

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """Raises ImpossibleError for a model without experts, or a worker without room for one."""
        job = with_vocabulary(job, self.vocabulary_bytes)
        routed, on_gpu = routed_parts(job), self.worker == "gpu"
        near: Tier = "gpu" if on_gpu else "host"
        free = budgets[near] - _beside(job, prices, self.batch_size, on_gpu=on_gpu)
        slots = slots_of(routed, self.cached_experts_percent, free, "GPU memory" if on_gpu else "host memory")
        here = ON_GPU if on_gpu else IN_HOST
        return ExpertPlan(
            weights=_shares(job, routed, slots, Split(0.0, 0.0, 1.0), here),
            kv=here,
            activations=here,
            gpu_batch_size=self.batch_size,
            overlap="asynchronous" if self.overlap else "none",
            home="storage",
            worker=self.worker,
            eviction=self.cache,
            slots=slots,
            schedule="copy",
            prefetch_layers=self.prefetch_layers,
            early_router=self.early_router,
            law=self.activation or ActivationLaw(),
            read_chunk_bytes=self.read_chunk_bytes,
            read_depth=self.read_depth,
            vocabulary_bytes=self.vocabulary_bytes,
        )


def with_vocabulary(job: Job, element_bytes: float | None) -> Job:
    """With embedding and head in another format than the 16 bits in which quantised checkpoints keep them."""
    if element_bytes is None:
        return job
    share = element_bytes / KEPT_BYTES
    parts = [
        replace(part, tensors=tuple(size * share for size in part.tensors)) if part.kind in VOCABULARY else part
        for part in job.parts
    ]
    return replace(job, parts=tuple(parts))


def routed_parts(job: Job) -> list[tuple[Part, Routed]]:
    """Parts that have experts; raises ImpossibleError where none has, or they differ."""
    found = [(part, part.routed) for part in job.parts if part.routed is not None]
    if not found:
        raise ImpossibleError("offload.policy: the model has no experts; take flexgen or zero_inference")
    return found


def slots_of(routed: list[tuple[Part, Routed]], percent: float | None, free_bytes: float, where: str) -> int:
    """Experts that are kept near; raises ImpossibleError where not even one layer's of a token fit."""
    every = sum(one.experts for _, one in routed)
    size = max(one.expert_bytes for _, one in routed)
    if percent is not None:
        return round(every * percent / 100.0)
    fit = int(min(every, free_bytes // size))
    if fit < routed[0][1].top_k:
        raise ImpossibleError(
            f"offload.policy: {where} has {free_bytes / 1e9:,.1f} GB beside all else, and a token's experts of a layer"
            f" take {size * routed[0][1].top_k / 1e9:,.1f} GB; take a smaller batch, or more memory"
        )
    return fit


def _beside(job: Job, prices: Prices, batch: int, *, on_gpu: bool) -> float:
    """Bytes that the worker needs for all but experts."""
    experts = sum(one.experts * one.expert_bytes for _, one in routed_parts(job))
    fixed = job.weight_bytes - experts
    cache = batch * (job.kv_bytes * job.kv_tokens + job.hidden_bytes * job.prompt_tokens)
    spaces = (prices.workspace_bytes(part, batch, job.prompt_tokens) for part in job.parts)
    return fixed + cache + (max(spaces) if on_gpu else 0.0)


def _shares(job: Job, routed: list[tuple[Part, Routed]], slots: int, home: Split, near: Split) -> Split:
    """Of the weights, as the plan starts: experts that are near are counted there."""
    experts = sum(one.experts * one.expert_bytes for _, one in routed)
    held = 1.0 - (experts - slots * routed[0][1].expert_bytes) / job.weight_bytes
    gpu = held * near.gpu + (1.0 - held) * home.gpu
    host = held * near.host + (1.0 - held) * home.host
    return Split(gpu, host, max(0.0, 1.0 - gpu - host))
