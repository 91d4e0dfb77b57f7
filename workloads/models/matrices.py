"""The weight matrices of a layer one by one, as checkpoints and frameworks hold them: no projections fused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from workloads.models.architecture import Attention, DenseMlp, LatentAttentionSpec, LayerGroup, Mlp

Shape: TypeAlias = tuple[float, float]


def layer_matrices(hidden: int, group: LayerGroup) -> tuple[Shape, ...]:
    """Rows and columns of each; biases, norms and routers, which are small, are left out."""
    return (*_attention(hidden, group.attention), *_mlp(hidden, group.mlp))


def elements(matrices: Iterable[Shape]) -> float:
    """Of all of them."""
    return sum(rows * columns for rows, columns in matrices)


def _attention(hidden: int, spec: Attention) -> tuple[Shape, ...]:
    """Queries, keys, values, output; of latent attention the way down and up of each."""
    if not isinstance(spec, LatentAttentionSpec):
        queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        return ((hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden))
    queries, rank = spec.heads * (spec.qk_nope_head_dim + spec.qk_rope_head_dim), spec.q_lora_rank
    asked: tuple[Shape, ...] = ((hidden, rank), (rank, queries)) if rank else ((hidden, queries),)
    down = (hidden, spec.kv_lora_rank + spec.qk_rope_head_dim)
    up = (spec.kv_lora_rank, spec.heads * (spec.qk_nope_head_dim + spec.v_head_dim))
    return (*asked, down, up, (spec.heads * spec.v_head_dim, hidden))


def _mlp(hidden: int, spec: Mlp) -> tuple[Shape, ...]:
    """Up, down, and a gate; of a mixture those of each expert, and of what all tokens visit."""
    matrices = 3 if spec.gated else 2
    if isinstance(spec, DenseMlp):
        return ((hidden, spec.intermediate_size),) * matrices
    shared = ((hidden, spec.shared_intermediate_size),) * (matrices if spec.shared_intermediate_size else 0)
    return ((hidden, spec.expert_intermediate_size),) * (matrices * spec.experts) + shared
