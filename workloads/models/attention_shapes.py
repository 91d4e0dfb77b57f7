"""Attention over the KV cache as shapes, priced on sums over sequences."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.ops import AttentionDecode, AttentionPrefill, Size
from workloads.models.architecture import Attention, LatentAttentionSpec, ModelArchitecture
from workloads.models.dtypes import Dtypes
from workloads.models.stages import LayerRange, kv_heads_per_rank


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Attention in `layers` equal layers of one rank, for prompts and for decoding."""

    layers: int
    window: int  # tokens; 0: sees everything
    heads: int
    prefill_kv_heads: int
    prefill_qk_dim: int
    prefill_v_dim: int
    prefill_kv_width: int  # elements read a token and layer
    decode_kv_heads: int
    decode_qk_dim: int
    decode_v_dim: int
    decode_kv_width: int

    def prefill_op(
        self, *, pairs: Size, queries: Size, kv_tokens: Size, sequences: Size = 1.0, dtypes: Dtypes
    ) -> AttentionPrefill:
        """Over prompts or chunks of them; sizes are sums over sequences (`pairs` by `visible_pairs`)."""
        return AttentionPrefill(
            pairs=pairs,
            queries=queries,
            kv_tokens=kv_tokens,
            sequences=sequences,
            window=self.window,
            heads=self.heads,
            kv_heads=self.prefill_kv_heads,
            qk_dim=self.prefill_qk_dim,
            v_dim=self.prefill_v_dim,
            kv_width=self.prefill_kv_width,
            dtype=dtypes.residual,
            kv_dtype=dtypes.kv_cache,
        )

    def decode_op(self, *, sequences: Size, kv_tokens: Size, dtypes: Dtypes, mixed: bool = False) -> AttentionDecode:
        """One new token a sequence; `kv_tokens` sums the keys each sees: its context with the new token, or its
        window. mixed: in a step with a prompt's chunk.
        """
        return AttentionDecode(
            pairs=kv_tokens,
            queries=sequences,
            kv_tokens=kv_tokens,
            heads=self.heads,
            kv_heads=self.decode_kv_heads,
            window=self.window,
            mixed=mixed,
            qk_dim=self.decode_qk_dim,
            v_dim=self.decode_v_dim,
            kv_width=self.decode_kv_width,
            dtype=dtypes.residual,
            kv_dtype=dtypes.kv_cache,
        )


def attention_shapes(architecture: ModelArchitecture, tp: int, layers: LayerRange) -> list[AttentionShape]:
    """Distinct attention shapes of a stage, with the number of layers that have each."""
    counts: dict[Attention, int] = {}
    for group in architecture.groups:
        if n := layers.count(group):
            counts[group.attention] = counts.get(group.attention, 0) + n
    return [_attention_shape(spec, tp, count) for spec, count in counts.items()]


def _attention_shape(spec: Attention, tp: int, count: int) -> AttentionShape:
    heads = spec.heads // tp
    if isinstance(spec, LatentAttentionSpec):
        # decoding in the latent space, where all heads read one vector a token; prompts with K and V expanded for each
        # head (DeepSeek-V2, 2024, section 2.1 and its serving code)
        qk_dim = spec.qk_nope_head_dim + spec.qk_rope_head_dim
        latent = spec.kv_lora_rank + spec.qk_rope_head_dim
        return AttentionShape(
            layers=count,
            window=spec.window,
            heads=heads,
            prefill_kv_heads=heads,
            prefill_qk_dim=qk_dim,
            prefill_v_dim=spec.v_head_dim,
            prefill_kv_width=heads * (qk_dim + spec.v_head_dim),
            decode_kv_heads=1,
            decode_qk_dim=latent,
            decode_v_dim=spec.kv_lora_rank,
            decode_kv_width=latent,
        )
    kv_heads, dim = kv_heads_per_rank(spec, tp), spec.head_dim
    width = 2 * kv_heads * dim
    return AttentionShape(
        layers=count,
        window=spec.window,
        heads=heads,
        prefill_kv_heads=kv_heads,
        prefill_qk_dim=dim,
        prefill_v_dim=dim,
        prefill_kv_width=width,
        decode_kv_heads=kv_heads,
        decode_qk_dim=dim,
        decode_v_dim=dim,
        decode_kv_width=width,
    )
