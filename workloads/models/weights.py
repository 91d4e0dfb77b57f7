"""The weight tensors of a model as one tensor-parallel rank holds them; at tp = 1 they are the whole model."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.models.architecture import (
    Attention,
    DenseMlp,
    LatentAttentionSpec,
    LayerGroup,
    Mlp,
    ModelArchitecture,
)
from workloads.models.stages import kv_heads_per_rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """Tensors of one role, counted together."""

    part: str  # attention | mlp | experts | router | norm | bias | embedding | lm_head
    elements: int
    multiplies: bool = False  # a matrix that every token visiting it is multiplied by
    visited_fraction: tuple[int, int] = (1, 1)  # of the elements, by one token: top_k of experts

    @property
    def active_elements(self) -> int:
        """Elements that one token visits."""
        share, whole = self.visited_fraction
        return self.elements * share // whole


def layer_weights(architecture: ModelArchitecture, group: LayerGroup, tp: int = 1) -> list[Weight]:
    """One layer of a group on one rank."""
    norms = architecture.norms_per_layer * architecture.norm_vectors * architecture.hidden_size
    return [
        *_attention_weights(architecture.hidden_size, group.attention, tp),
        *_mlp_weights(architecture.hidden_size, group.mlp, tp),
        Weight(part="norm", elements=norms),
    ]


def embedding_weights(architecture: ModelArchitecture, tp: int = 1) -> list[Weight]:
    """What stands before the first layer: token table (rows spread over ranks), positions, its projection and norms."""
    hidden = architecture.hidden_size
    width = architecture.embedding_size or hidden
    weights = [
        Weight(part="embedding", elements=_ceil(architecture.vocab_size, tp) * width),
        Weight(part="embedding", elements=architecture.learned_positions * hidden),
        Weight(part="norm", elements=architecture.extra_norms * architecture.norm_vectors * hidden),
    ]
    if width != hidden:
        weights.append(Weight(part="embedding", elements=width * hidden))
    return weights


def head_weights(architecture: ModelArchitecture, tp: int = 1, *, shares_embedding: bool) -> list[Weight]:
    """What stands after the last layer; `shares_embedding`: the token table of the same rank serves as the head."""
    hidden = architecture.hidden_size
    width = architecture.embedding_size or hidden
    shard = _ceil(architecture.vocab_size, tp)
    weights = []
    if architecture.final_norm:
        weights.append(Weight(part="norm", elements=architecture.norm_vectors * hidden))
    if not shares_embedding:
        weights.append(Weight(part="lm_head", elements=shard * width, multiplies=True))
    if architecture.head_bias:
        weights.append(Weight(part="bias", elements=shard))
    if width != hidden:
        weights.append(Weight(part="lm_head", elements=width * hidden, multiplies=True))
    return weights


def _ceil(whole: int, parts: int) -> int:
    return -(-whole // parts)


def _attention_weights(hidden: int, spec: Attention, tp: int) -> list[Weight]:
    if isinstance(spec, LatentAttentionSpec):
        return _latent_weights(hidden, spec, tp)
    heads, kv_heads = _ceil(spec.heads, tp), kv_heads_per_rank(spec, tp)
    query, key_value = heads * spec.head_dim, 2 * kv_heads * spec.head_dim
    bias = (query + key_value if spec.qkv_bias else 0) + (hidden if spec.output_bias else 0)
    return [
        Weight(part="attention", elements=hidden * (2 * query + key_value), multiplies=True),
        Weight(part="bias", elements=bias + (heads if spec.sinks else 0)),
        Weight(part="norm", elements=2 * spec.head_dim if spec.qk_norm else 0),
    ]


def _latent_weights(hidden: int, spec: LatentAttentionSpec, tp: int) -> list[Weight]:
    """Down-projections and their norms are kept on every rank, up-projections are divided by heads (DeepSeek-V2)."""
    heads = _ceil(spec.heads, tp)
    query = heads * (spec.qk_nope_head_dim + spec.qk_rope_head_dim)
    query_elements = spec.q_lora_rank * (hidden + query) if spec.q_lora_rank else hidden * query
    down = hidden * (spec.kv_lora_rank + spec.qk_rope_head_dim)
    up = spec.kv_lora_rank * heads * (spec.qk_nope_head_dim + spec.v_head_dim)
    output = heads * spec.v_head_dim * hidden
    return [
        Weight(part="attention", elements=query_elements + down + up + output, multiplies=True),
        Weight(part="norm", elements=spec.q_lora_rank + spec.kv_lora_rank),
    ]


def _mlp_weights(hidden: int, spec: Mlp, tp: int) -> list[Weight]:
    up = 2 if spec.gated else 1
    if isinstance(spec, DenseMlp):
        shard = _ceil(spec.intermediate_size, tp)
        return [
            Weight(part="mlp", elements=(up + 1) * hidden * shard, multiplies=True),
            Weight(part="bias", elements=up * shard + hidden if spec.bias else 0),
        ]
    shard = _ceil(spec.expert_intermediate_size, tp)
    visited = (spec.top_k, spec.experts)
    bias = spec.experts * (up * shard + hidden) if spec.expert_bias else 0
    shared = (up + 1) * hidden * _ceil(spec.shared_intermediate_size, tp)
    return [
        Weight(part="router", elements=spec.experts * hidden, multiplies=True),
        Weight(part="bias", elements=spec.experts if spec.router_bias else 0),
        Weight(
            part="experts",
            elements=spec.experts * (up + 1) * hidden * shard,
            multiplies=True,
            visited_fraction=visited,
        ),
        Weight(part="bias", elements=bias, visited_fraction=visited),
        Weight(part="mlp", elements=shared, multiplies=True),
        Weight(part="router", elements=hidden if spec.shared_gate else 0, multiplies=True),
    ]
