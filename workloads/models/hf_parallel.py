"""Families whose attention and MLP read the same input: Falcon and the first Phi."""

from __future__ import annotations

from dataclasses import replace

from workloads.models.architecture import AttentionSpec, DenseMlp, ModelArchitecture
from workloads.models.config_fields import ConfigFields
from workloads.models.hf_common import Reader, attention, decoder, head_dim


def _falcon(fields: ConfigFields) -> ModelArchitecture:
    """Falcon (arXiv 2311.16867): multi-query in the 7B, grouped heads and two norms in the newer decoder."""
    grouped = fields.flag("new_decoder_architecture", False)
    heads = fields.integer("num_attention_heads")
    if grouped:
        kv_heads = fields.integer("num_key_value_heads", default=heads)
    else:
        kv_heads = 1 if fields.flag("multi_query", True) else heads
    bias = fields.flag("bias", False)
    spec = AttentionSpec(
        heads=heads, kv_heads=kv_heads, head_dim=head_dim(fields, heads), qkv_bias=bias, output_bias=bias
    )
    size = fields.integer("intermediate_size", default=4 * fields.integer("hidden_size"))
    mlp = DenseMlp(intermediate_size=size, gated=False, bias=bias)
    parallel = grouped or fields.flag("parallel_attn", True)
    norms = fields.integer("num_ln_in_parallel_attn", default=2) if grouped else 1 if parallel else 2
    architecture = decoder(fields, spec, mlp, tied=True, max_positions=2048)
    rotary = not fields.flag("alibi", False)
    return replace(architecture, norms_per_layer=norms, norm_vectors=2, parallel_block=parallel, rotary=rotary)


def _phi(fields: ConfigFields) -> ModelArchitecture:
    """Phi-1, 1.5 and 2: one LayerNorm a layer, biases everywhere, on the output projection too."""
    fields.refuse("qk_layernorm", "norms of queries and keys are not modelled for this family")
    spec = attention(fields, qkv_bias=True, output_bias=True)
    mlp = DenseMlp(intermediate_size=fields.integer("intermediate_size"), gated=False, bias=True)
    architecture = decoder(fields, spec, mlp)
    return replace(architecture, norms_per_layer=1, norm_vectors=2, head_bias=True, parallel_block=True)


PARALLEL: dict[str, Reader] = {
    "falcon": _falcon,
    "phi": _phi,
}
