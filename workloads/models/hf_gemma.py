"""The Gemma families: tied embeddings, heads wider than hidden_size / heads, windows in most layers of later ones."""

from __future__ import annotations

from dataclasses import replace

from workloads.models.architecture import ModelArchitecture
from workloads.models.config_fields import ConfigFields
from workloads.models.hf_common import Reader, attention, decoder, gated_mlp, sliding_window, windows


def _gemma(fields: ConfigFields) -> ModelArchitecture:
    bias = fields.flag("attention_bias", False)
    return decoder(fields, attention(fields, qkv_bias=bias, output_bias=bias), gated_mlp(fields), tied=True)


def _gemma2(fields: ConfigFields) -> ModelArchitecture:
    """Gemma 2 (arXiv 2408.00118): norms before and after each block, a window in every other layer."""
    bias = fields.flag("attention_bias", False)
    sizes = windows(fields, window=sliding_window(fields, default=4096), slides=lambda layer: layer % 2 == 0)
    attentions = [attention(fields, window=size, qkv_bias=bias, output_bias=bias) for size in sizes]
    return replace(decoder(fields, attentions, gated_mlp(fields), tied=True), norms_per_layer=4)


# fields that released Gemma 3 configs leave to the defaults of their configuration class
_GEMMA3_DEFAULTS = {
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "sliding_window": 4096,
    "vocab_size": 262_208,
}


def _gemma3_text(fields: ConfigFields) -> ModelArchitecture:
    """Gemma 3 (arXiv 2503.19786): as Gemma 2 with query and key norms and one layer in six without a window."""
    complete = ConfigFields({**_GEMMA3_DEFAULTS, **fields.config}, fields.name)
    pattern = complete.integer("sliding_window_pattern", default=6)
    sizes = windows(complete, window=sliding_window(complete), slides=lambda layer: (layer + 1) % pattern != 0)
    bias = complete.flag("attention_bias", False)
    attentions = [attention(complete, window=size, qkv_bias=bias, output_bias=bias, qk_norm=True) for size in sizes]
    return replace(decoder(complete, attentions, gated_mlp(complete), tied=True), norms_per_layer=4)


def _gemma3(fields: ConfigFields) -> ModelArchitecture:
    """The language model of a Gemma 3 with vision; the vision tower is left out."""
    text = fields.config.get("text_config")
    if not isinstance(text, dict):
        raise fields.error("text_config", text, "must be an object with the language model's fields")
    return _gemma3_text(ConfigFields({"model_type": "gemma3_text", **text}, fields.name))


GEMMA: dict[str, Reader] = {
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gemma3_text": _gemma3_text,
}
