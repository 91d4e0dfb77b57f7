"""What a policy of offloaded inference decides: where weights, KV cache and activations live, and in what blocks.

Words are FlexGen's (arXiv 2303.06865, section 4): a block is `num_gpu_batches` batches of `gpu_batch_size` sequences,
which all pass a layer before the next layer's weights are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from hardware_models.errors import FleetcastError

Tier: TypeAlias = Literal["gpu", "host", "storage"]
TIERS: tuple[Tier, ...] = ("gpu", "host", "storage")
# What bytes cross: copies between host and GPU, from or to memory that is pinned (as all that comes from drives, or
# goes there, passes through) or not, and by what they carry; and drives
Route: TypeAlias = Literal["h2d", "h2d_pageable", "d2h", "d2h_cache", "d2h_activation", "read", "write"]
Overlap: TypeAlias = Literal["synchronised", "asynchronous", "none"]
GROUP, BITS = 64, 4  # of group-wise quantisation: elements that share a scale and a minimum of 16 bits (section 5)
COMPRESSED = (GROUP * BITS / 8 + 4) / (GROUP * 2)  # bytes of 16-bit elements that are left


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of something on GPU, in host memory and on drives; they sum to 1."""

    gpu: float
    host: float
    storage: float

    def __post_init__(self) -> None:
        shares = (self.gpu, self.host, self.storage)
        if min(shares) < -1e-9 or abs(sum(shares) - 1.0) > 1e-6:
            raise FleetcastError(
                f"offload.policy: shares {list(shares)} of GPU, host and storage must be at least 0 and sum to 1"
            )

    def of(self, tier: Tier) -> float:
        """Share on one tier."""
        return {"gpu": self.gpu, "host": self.host, "storage": self.storage}[tier]


ON_GPU = Split(1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """All that is decided; `overlap` says what may run at once.

    synchronised: while a batch is computed, the next one's data are loaded and the last one's stored, and all of it
    ends before the next batch (FlexGen's Algorithm 1). asynchronous: weights are loaded ahead as far as
    `prefetch_parts` buffers go, and nothing else is waited for. none: one thing after another.
    """

    weights: Split
    kv: Split
    activations: Split
    gpu_batch_size: int
    num_gpu_batches: int = 1
    compress_weights: bool = False
    compress_kv: bool = False
    cpu_attention: bool = False
    overlap: Overlap = "synchronised"
    prefetch_parts: int = 1
    pinned_weights: bool = True
    whole_tensors: bool = False

    @property
    def sequences(self) -> int:
        """Of a block."""
        return self.gpu_batch_size * self.num_gpu_batches

    @property
    def weight_factor(self) -> float:
        """Stored bytes over those of the model's own format."""
        return COMPRESSED if self.compress_weights else 1.0

    @property
    def kv_factor(self) -> float:
        """The same of the KV cache."""
        return COMPRESSED if self.compress_kv else 1.0


@dataclass(frozen=True, slots=True)
class Routed:
    """What is loaded of a part by need: experts of which each token visits `top_k`, of equal size."""

    experts: int
    top_k: int
    expert_bytes: float


@dataclass(frozen=True, slots=True)
class Part:
    """What weights are loaded for at once: half a layer (attention, or MLP), or the model's beginning or end."""

    name: str
    kind: Literal["attention", "mlp", "embedding", "head"]
    shape: int  # parts of the same kind and shape cost the same
    tensors: tuple[float, ...]  # bytes of each, in the order in which they are placed
    kv_bytes: float = 0.0  # of a token, in the model's own format
    routed: Routed | None = None  # None: every token needs all of it
    neurons: int = 0  # of an MLP that is not one of experts, each with a row or column of
    matrices: int = 0

    @property
    def weight_bytes(self) -> float:
        """Of all its tensors."""
        return sum(self.tensors)


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job: equal requests, and the model's parts in the order of computing."""

    parts: tuple[Part, ...]
    prompt_tokens: int
    output_tokens: int
    requests: int | None  # None: one block
    hidden_bytes: float  # of a token between parts

    @property
    def weight_bytes(self) -> float:
        """Of the whole model."""
        return sum(part.weight_bytes for part in self.parts)

    @property
    def kv_bytes(self) -> float:
        """Of one token in all layers."""
        return sum(part.kv_bytes for part in self.parts)

    @property
    def kv_tokens(self) -> int:
        """Slots that each sequence's cache has: the last output is not cached."""
        return self.prompt_tokens + self.output_tokens - 1


class Prices(Protocol):
    """Seconds of what a schedule runs; who writes it need not know on what."""

    @property
    def has_drives(self) -> bool:
        """Is there anything to read from and write to below host memory?"""

    @property
    def drives(self) -> int:
        """How many; what is read and written is spread over all of them."""

    def linear_s(self, part: Part, sequences: float, new_tokens: int) -> float:
        """Of a part on the GPU, attention over the cache left out."""

    def attention_s(self, part: Part, sequences: float, new_tokens: int, context_tokens: int) -> float:
        """Of attention on the GPU; context: tokens each sequence has, the new ones included."""

    def cpu_attention_s(self, part: Part, sequences: float, context_tokens: int) -> float:
        """Of one new token a sequence on the CPU, over keys and values in host memory."""

    def decompress_s(self, size_bytes: float) -> float:
        """Of turning compressed bytes into the model's own format on the GPU."""

    def copy_s(self, route: Route, size_bytes: float) -> float:
        """Of bytes alone on a route."""

    def workspace_bytes(self, part: Part, sequences: float, new_tokens: int) -> float:
        """That the GPU needs beside weights and KV cache while it computes a part, inputs and outputs included."""


class OffloadPolicy(Protocol):
    """Turns a job into a plan."""

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """budgets: bytes of each tier. Raises FleetcastError where no plan can be."""


def placed(plan: BlockPlan, part: Part) -> dict[Tier, float]:
    """Stored bytes of a part's weights on each tier.

    With `whole_tensors` each tensor lies where the middle of its bytes falls when tiers are filled in order, as
    FlexGen's code places them; shares of the model then differ from those asked for.
    """
    total = part.weight_bytes * plan.weight_factor
    if not plan.whole_tensors:
        return {tier: total * plan.weights.of(tier) for tier in TIERS}
    found: dict[Tier, float] = dict.fromkeys(TIERS, 0.0)
    before = 0.0
    for size in part.tensors:
        middle = (before + size / 2.0) / part.weight_bytes
        tier: Tier = "gpu"
        if middle >= plan.weights.gpu:
            tier = "host" if middle < plan.weights.gpu + plan.weights.host else "storage"
        found[tier] += size * plan.weight_factor
        before += size
    return found
