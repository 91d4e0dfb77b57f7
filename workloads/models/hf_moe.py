"""Families with mixture-of-experts layers, and DeepSeek's latent attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from workloads.models.architecture import LatentAttentionSpec, Mlp, ModelArchitecture, MoeMlp
from workloads.models.config_fields import ConfigFields
from workloads.models.hf_common import (
    Reader,
    attention,
    decoder,
    gated_mlp,
    qwen_attentions,
    sliding_window,
    windows,
)


def _experts(fields: ConfigFields, size_key: str) -> MoeMlp:
    experts, top_k = fields.integer("num_experts"), fields.integer("num_experts_per_tok")
    if top_k > experts:
        key, _ = fields.find("num_experts_per_tok")
        raise fields.error(key, top_k, f"must not exceed the {experts} experts of a layer")
    return MoeMlp(experts=experts, top_k=top_k, expert_intermediate_size=fields.integer(size_key))


def _mlps(fields: ConfigFields, mixture: MoeMlp, sparse: Callable[[int], bool]) -> list[Mlp]:
    """The mixture in the layers that are sparse, a dense MLP in the others."""
    layers = [sparse(layer) for layer in range(fields.integer("num_hidden_layers"))]
    if all(layers):
        return [mixture] * len(layers)
    dense = gated_mlp(fields)
    return [mixture if is_sparse else dense for is_sparse in layers]


def _mixtral(fields: ConfigFields) -> ModelArchitecture:
    spec = attention(fields, window=sliding_window(fields))
    return decoder(fields, spec, _experts(fields, "intermediate_size"))


def _phimoe(fields: ConfigFields) -> ModelArchitecture:
    """Phi-3.5-MoE: as Mixtral with LayerNorm and biases."""
    bias = fields.flag("attention_bias", False)
    spec = attention(fields, window=sliding_window(fields), qkv_bias=bias, output_bias=bias)
    architecture = decoder(fields, spec, _experts(fields, "intermediate_size"))
    return replace(architecture, norm_vectors=2, head_bias=fields.flag("lm_head_bias", False))


def _qwen_mlps(fields: ConfigFields, mixture: MoeMlp) -> list[Mlp]:
    step = fields.integer("decoder_sparse_step", default=1)
    dense_layers = fields.config.get("mlp_only_layers") or []
    if not isinstance(dense_layers, list) or any(type(layer) is not int for layer in dense_layers):
        raise fields.error("mlp_only_layers", dense_layers, "must be a list of layer numbers")
    return _mlps(fields, mixture, lambda layer: layer not in dense_layers and (layer + 1) % step == 0)


def _qwen2_moe(fields: ConfigFields) -> ModelArchitecture:
    shared = fields.integer("shared_expert_intermediate_size")
    mixture = replace(_experts(fields, "moe_intermediate_size"), shared_intermediate_size=shared, shared_gate=True)
    return decoder(fields, qwen_attentions(fields, qkv_bias=True), _qwen_mlps(fields, mixture))


def _qwen3_moe(fields: ConfigFields) -> ModelArchitecture:
    bias = fields.flag("attention_bias", False)
    attentions = qwen_attentions(fields, qkv_bias=bias, output_bias=bias, qk_norm=True)
    return decoder(fields, attentions, _qwen_mlps(fields, _experts(fields, "moe_intermediate_size")))


def _deepseek(fields: ConfigFields) -> ModelArchitecture:
    """DeepSeek-V2 and V3 (arXiv 2405.04434, 2412.19437), without V3's multi-token-prediction layer."""
    fields.refuse("attention_bias", "biases in latent attention are not modelled")
    spec = LatentAttentionSpec(
        heads=fields.integer("num_attention_heads"),
        q_lora_rank=fields.integer("q_lora_rank", default=0),
        kv_lora_rank=fields.integer("kv_lora_rank"),
        qk_nope_head_dim=fields.integer("qk_nope_head_dim"),
        qk_rope_head_dim=fields.integer("qk_rope_head_dim"),
        v_head_dim=fields.integer("v_head_dim"),
    )
    experts = _experts(fields, "moe_intermediate_size")
    shared = fields.integer("n_shared_experts", default=0, minimum=0) * experts.expert_intermediate_size
    # the bias that steers routing without an auxiliary loss is a stored vector of V3
    corrected = fields.config.get("topk_method", _TOPK_METHODS[fields.config["model_type"]]) == "noaux_tc"
    mixture = replace(
        experts,
        shared_intermediate_size=shared,
        router_bias=corrected,
        groups=fields.integer("n_group", default=1),
        groups_per_token=fields.integer("topk_group", default=1),
    )
    first = fields.integer("first_k_dense_replace", default=0, minimum=0)
    step = fields.integer("moe_layer_freq", default=1)
    return decoder(fields, spec, _mlps(fields, mixture, lambda layer: layer >= first and layer % step == 0))


_TOPK_METHODS = {"deepseek_v2": "greedy", "deepseek_v3": "noaux_tc"}


def _gpt_oss(fields: ConfigFields) -> ModelArchitecture:
    """gpt-oss (2025): biases everywhere, attention sinks, a window in every other layer, four-bit experts."""
    bias = fields.flag("attention_bias", True)
    sizes = windows(fields, window=sliding_window(fields, default=128), slides=lambda layer: layer % 2 == 0)
    attentions = [attention(fields, window=size, qkv_bias=bias, output_bias=bias, sinks=True) for size in sizes]
    mixture = replace(_experts(fields, "intermediate_size"), router_bias=True, expert_bias=True)
    quantization = fields.config.get("quantization_config")
    packed = isinstance(quantization, dict) and quantization.get("quant_method") == "mxfp4"
    architecture = decoder(fields, attentions, mixture)
    return replace(architecture, stored_dtypes=(("experts", "mxfp4"),) if packed else ())


MIXTURES: dict[str, Reader] = {
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "gpt_oss": _gpt_oss,
    "mixtral": _mixtral,
    "phimoe": _phimoe,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
}
