"""Families that follow Llama: RMSNorm, rotary positions, a gated MLP in every layer."""

from __future__ import annotations

from workloads.models.architecture import DenseMlp, ModelArchitecture
from workloads.models.config_fields import ConfigFields
from workloads.models.hf_common import Reader, attention, decoder, gated_mlp, qwen_attentions, sliding_window


def _llama(fields: ConfigFields) -> ModelArchitecture:
    bias = fields.flag("attention_bias", False)
    mlp = DenseMlp(intermediate_size=fields.integer("intermediate_size"), bias=fields.flag("mlp_bias", False))
    return decoder(fields, attention(fields, qkv_bias=bias, output_bias=bias), mlp)


def _mistral(fields: ConfigFields) -> ModelArchitecture:
    return decoder(fields, attention(fields, window=sliding_window(fields, default=4096)), gated_mlp(fields))


def _qwen(fields: ConfigFields) -> ModelArchitecture:
    """The first Qwen: intermediate_size is of gate and up together; the bias is on queries, keys and values only."""
    both = fields.integer("intermediate_size")
    if both % 2:
        raise fields.error("intermediate_size", both, "must be even, it counts gate and up projection together")
    return decoder(fields, attention(fields, qkv_bias=True), DenseMlp(intermediate_size=both // 2))


def _qwen2(fields: ConfigFields) -> ModelArchitecture:
    return decoder(fields, qwen_attentions(fields, qkv_bias=True), gated_mlp(fields))


def _qwen3(fields: ConfigFields) -> ModelArchitecture:
    bias = fields.flag("attention_bias", False)
    attentions = qwen_attentions(fields, qkv_bias=bias, output_bias=bias, qk_norm=True)
    return decoder(fields, attentions, gated_mlp(fields))


def _phi3(fields: ConfigFields) -> ModelArchitecture:
    return decoder(fields, attention(fields, window=sliding_window(fields)), gated_mlp(fields))


def _internlm(fields: ConfigFields) -> ModelArchitecture:
    """InternLM 1 and 2: one `bias` for the four attention projections."""
    bias = fields.flag("bias", True)
    return decoder(fields, attention(fields, qkv_bias=bias, output_bias=bias), gated_mlp(fields))


LLAMA_LIKE: dict[str, Reader] = {
    "internlm": _internlm,
    "internlm2": _internlm,
    "llama": _llama,
    "mistral": _mistral,
    "phi3": _phi3,
    "qwen": _qwen,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}
