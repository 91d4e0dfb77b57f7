"""Families that follow Llama: RMSNorm, rotary positions, gated MLP."""

from __future__ import annotations

from workloads.models.architecture import AttentionSpec, DenseMlp, ModelArchitecture
from workloads.models.config_fields import ConfigFields
from workloads.models.hf_common import Reader, attention, decoder, windows


def _llama(fields: ConfigFields) -> ModelArchitecture:
    bias = fields.flag("attention_bias", False)
    mlp = DenseMlp(intermediate_size=fields.integer("intermediate_size"), bias=fields.flag("mlp_bias", False))
    return decoder(fields, attention(fields, qkv_bias=bias, output_bias=bias), mlp)


def _mistral(fields: ConfigFields) -> ModelArchitecture:
    window = sliding_window(fields, default=4096)
    return decoder(fields, attention(fields, window=window), _gated(fields))


def _qwen2(fields: ConfigFields) -> ModelArchitecture:
    return decoder(fields, qwen_attentions(fields, qkv_bias=True), _gated(fields))


def sliding_window(fields: ConfigFields, default: int = 0) -> int:
    """The config's sliding_window: null means none, absent the default of the family's configuration class."""
    if "sliding_window" not in fields.config:
        return default
    return fields.integer("sliding_window", default=0)


def qwen_attentions(
    fields: ConfigFields, *, qkv_bias: bool, output_bias: bool = False, qk_norm: bool = False
) -> list[AttentionSpec]:
    """Attention a layer: with use_sliding_window, layers from max_window_layers on have a window."""
    sliding = fields.flag("use_sliding_window", False)
    window = sliding_window(fields, default=4096) if sliding else 0
    first = fields.integer("max_window_layers", default=28, minimum=0)
    return [
        attention(fields, window=size, qkv_bias=qkv_bias, output_bias=output_bias, qk_norm=qk_norm)
        for size in windows(fields, window=window, slides=lambda layer: layer >= first)
    ]


def _gated(fields: ConfigFields) -> DenseMlp:
    return DenseMlp(intermediate_size=fields.integer("intermediate_size"))


LLAMA_LIKE: dict[str, Reader] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
}
