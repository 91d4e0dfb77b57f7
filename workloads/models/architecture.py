"""A model's architecture, normalised: what every family's config.json is turned into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """Multi-head, grouped-query or multi-query attention."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int = 0  # sliding window, tokens, the query's own included; 0: sees everything
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False  # a norm vector of head_dim each for queries and keys
    sinks: bool = False  # one learned logit a head (gpt-oss)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttentionSpec:
    """Multi-head latent attention (DeepSeek-V2, 2024): one compressed KV vector a token, shared by all heads."""

    heads: int
    q_lora_rank: int  # 0: queries are projected directly
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    window: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseMlp:
    """Up (and gate) projection, activation, down projection."""

    intermediate_size: int
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeMlp:
    """A router, routed experts of which each token visits top_k, and experts that every token visits."""

    experts: int
    top_k: int
    expert_intermediate_size: int
    shared_intermediate_size: int = 0  # of all shared experts together
    shared_gate: bool = False  # a sigmoid gate on the shared expert (Qwen2-MoE)
    gated: bool = True
    router_bias: bool = False
    expert_bias: bool = False
    groups: int = 1  # that the experts are divided into,
    groups_per_token: int = 1  # and of so many of which a token's experts are (DeepSeek-V3)


Attention = AttentionSpec | LatentAttentionSpec
Mlp = DenseMlp | MoeMlp


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """`count` equal layers; groups with the same content may alternate in the model, their order does not matter for
    costs.
    """

    layers: tuple[int, ...]  # indices of the layers in the model
    attention: Attention
    mlp: Mlp

    @property
    def count(self) -> int:
        """Layers in the group."""
        return len(self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """A decoder-only transformer."""

    name: str
    model_type: str
    hidden_size: int
    num_layers: int
    vocab_size: int
    max_position_embeddings: int
    groups: tuple[LayerGroup, ...]
    tie_word_embeddings: bool = False
    learned_positions: int = 0  # rows of a learned position table
    rotary: bool = True  # queries and keys are rotated; False: learned positions or ALiBi
    embedding_size: int = 0  # where it differs from hidden_size (OPT-350m); 0: the same
    norms_per_layer: int = 2
    norm_vectors: int = 1  # 1: RMSNorm (weight), 2: LayerNorm (weight and bias)
    final_norm: bool = True
    extra_norms: int = 0  # beside the final one (BLOOM: after the embedding)
    head_bias: bool = False
    parallel_block: bool = False  # attention and MLP read the same input and are summed once (Falcon, Phi-2)
    stored_dtypes: tuple[tuple[str, str], ...] = ()  # parts whose weights have their own dtype: (("experts", "mxfp4"),)

    @property
    def window(self) -> int:
        """Largest sliding window of any layer; 0: none."""
        return max(group.attention.window for group in self.groups)
