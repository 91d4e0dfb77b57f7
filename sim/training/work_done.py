"""What a training step computes for the model, in floating-point operations, as MFU and HFU count it."""

from __future__ import annotations

from workloads.models.architecture import LatentAttentionSpec, ModelArchitecture
from workloads.models.counts import active_matmul_parameters, visible_pairs


def model_flop_per_token(architecture: ModelArchitecture, seq_length: int, vocabulary: int) -> float:
    """Forward and backward: 6 a matrix element that a token visits, the output projection's included, and 12 x layers x
    heads x head width x sequence for attention, a causal mask's hidden half counted, pairs beyond a sliding window not
    (PaLM, arXiv 2204.02311, appendix B; Megatron-LM, arXiv 2104.04473, section 5.1).
    """
    matrices = active_matmul_parameters(architecture) + vocabulary * architecture.hidden_size
    return 6.0 * matrices + attention_flop_per_token(architecture, seq_length)


def attention_flop_per_token(architecture: ModelArchitecture, seq_length: int) -> float:
    """Attention's part of it, of which a causal mask hides half."""
    everything = float(visible_pairs(float(seq_length), 0.0))
    width = 0.0
    for group in architecture.groups:
        seen = float(visible_pairs(float(seq_length), 0.0, group.attention.window)) / everything
        width += group.count * attention_width(group.attention) * seen
    return 6.0 * seq_length * width


def attention_width(spec: object) -> float:
    """Multiply-adds of one head-wise score and value, over all heads, a pair of tokens."""
    if isinstance(spec, LatentAttentionSpec):
        return float(spec.heads * (spec.qk_nope_head_dim + spec.qk_rope_head_dim + spec.v_head_dim))
    return 2.0 * spec.heads * spec.head_dim  # type: ignore[attr-defined,no-any-return]
