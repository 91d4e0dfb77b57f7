"""Which architectures the reference server can run, and their sizes: Llama-shaped, dense or with routed experts."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import FleetcastError
from workloads.models.architecture import AttentionSpec, DenseMlp, ModelArchitecture, MoeMlp


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """RMSNorm, rotary positions, grouped-query attention and SwiGLU, the same in every layer."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool
    intermediate: int  # of the MLP, or of one expert
    experts: int  # 0: a dense MLP
    top_k: int
    vocab: int
    tied: bool  # the embedding serves as output head

    @property
    def qkv_heads(self) -> int:
        """Heads of queries, keys and values together."""
        return self.heads + 2 * self.kv_heads

    @property
    def kv_width(self) -> int:
        """Elements of a token's key (or value) in one layer."""
        return self.kv_heads * self.head_dim


def model_shape(architecture: ModelArchitecture) -> ModelShape:
    """The sizes of an architecture; raises FleetcastError, saying what it has that the server has not."""
    attention, mlp = architecture.groups[0].attention, architecture.groups[0].mlp
    lacking = [what for what, present in _beyond(architecture).items() if present]
    if lacking or not isinstance(attention, AttentionSpec):
        reason = lacking[0] if lacking else "latent attention"
        raise FleetcastError(
            f"model '{architecture.name}': the reference server does not have {reason}; give a model built like Llama"
            " or Mixtral, such as llama-3.1-8b, qwen2.5-32b or mixtral-8x7b"
        )
    return ModelShape(
        layers=architecture.num_layers,
        hidden=architecture.hidden_size,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        qkv_bias=attention.qkv_bias,
        intermediate=mlp.expert_intermediate_size if isinstance(mlp, MoeMlp) else mlp.intermediate_size,
        experts=mlp.experts if isinstance(mlp, MoeMlp) else 0,
        top_k=mlp.top_k if isinstance(mlp, MoeMlp) else 0,
        vocab=architecture.vocab_size,
        tied=architecture.tie_word_embeddings,
    )


def _beyond(architecture: ModelArchitecture) -> dict[str, bool]:
    """What the server lacks -> whether the model has it."""
    groups = architecture.groups
    grouped = [group.attention for group in groups if isinstance(group.attention, AttentionSpec)]
    mlps = [group.mlp for group in groups]
    return {
        "layers of several kinds": len(groups) > 1,
        "latent attention": len(grouped) < len(groups),
        "sliding windows": architecture.window > 0,
        "an output bias in attention": any(a.output_bias for a in grouped),
        "norms of queries and keys": any(a.qk_norm for a in grouped),
        "attention sinks": any(a.sinks for a in grouped),
        "ungated MLPs": any(not mlp.gated for mlp in mlps),
        "biases in the MLP": any(mlp.bias if isinstance(mlp, DenseMlp) else mlp.expert_bias for mlp in mlps),
        "shared experts": any(isinstance(mlp, MoeMlp) and mlp.shared_intermediate_size > 0 for mlp in mlps),
        "a router bias": any(isinstance(mlp, MoeMlp) and mlp.router_bias for mlp in mlps),
        "LayerNorm": architecture.norm_vectors != 1
        or architecture.norms_per_layer != 2
        or architecture.extra_norms > 0,
        "learned positions": not architecture.rotary or architecture.learned_positions > 0,
        "parallel blocks": architecture.parallel_block,
        "an embedding of its own width": architecture.embedding_size not in (0, architecture.hidden_size),
        "a bias in the output head": architecture.head_bias,
    }
