"""Families that follow GPT-2: LayerNorm, biases, an ungated MLP, tied embeddings."""

from __future__ import annotations

from dataclasses import replace

from workloads.models.architecture import AttentionSpec, DenseMlp, ModelArchitecture
from workloads.models.config_fields import ConfigFields
from workloads.models.hf_common import Reader, decoder, head_dim


def _attention(fields: ConfigFields, bias: bool) -> AttentionSpec:
    heads = fields.integer("num_attention_heads")
    kv_heads = fields.integer("num_key_value_heads", default=heads)  # Megatron-LM's --num-query-groups
    dim = head_dim(fields, heads)
    return AttentionSpec(heads=heads, kv_heads=kv_heads, head_dim=dim, qkv_bias=bias, output_bias=bias)


def _gpt2(fields: ConfigFields) -> ModelArchitecture:
    """GPT-2, and by its sizes GPT-3; n_inner null means four times hidden_size."""
    size = fields.integer("intermediate_size", default=4 * fields.integer("hidden_size"))
    mlp = DenseMlp(intermediate_size=size, gated=False, bias=True)
    architecture = decoder(fields, _attention(fields, True), mlp, tied=True)
    return replace(architecture, norm_vectors=2, rotary=False, learned_positions=architecture.max_position_embeddings)


def _opt(fields: ConfigFields) -> ModelArchitecture:
    """OPT (arXiv 2205.01068): two rows more than positions in the table; post-norm models end without a norm."""
    bias = fields.flag("enable_bias", True)
    mlp = DenseMlp(intermediate_size=fields.integer("intermediate_size"), gated=False, bias=bias)
    architecture = decoder(fields, _attention(fields, bias), mlp, tied=True)
    final = fields.flag("do_layer_norm_before", True) and not fields.flag("_remove_final_layer_norm", False)
    width = fields.integer("word_embed_proj_dim", default=architecture.hidden_size)
    return replace(
        architecture,
        norm_vectors=2 if fields.flag("layer_norm_elementwise_affine", True) else 0,
        rotary=False,
        learned_positions=architecture.max_position_embeddings + 2,
        final_norm=final,
        embedding_size=width if width != architecture.hidden_size else 0,
    )


def _bloom(fields: ConfigFields) -> ModelArchitecture:
    """BLOOM (arXiv 2211.05100): linear position biases without parameters, a norm after the embedding."""
    size = fields.integer("intermediate_size", default=4 * fields.integer("hidden_size"))
    mlp = DenseMlp(intermediate_size=size, gated=False, bias=True)
    architecture = decoder(fields, _attention(fields, True), mlp, tied=True, max_positions=2048)
    return replace(architecture, norm_vectors=2, rotary=False, extra_norms=1)


GPT_LIKE: dict[str, Reader] = {
    "bloom": _bloom,
    "gpt2": _gpt2,
    "opt": _opt,
}
