"""How large a model is and what one forward pass computes: parameters, bytes, KV cache, floating-point operations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hardware_models.dtypes import bytes_per_element
from hardware_models.ops import Size
from workloads.models.architecture import Attention, LatentAttentionSpec, LayerGroup, ModelArchitecture
from workloads.models.stages import LayerRange, kv_heads_per_rank
from workloads.models.weights import Weight, embedding_weights, head_weights, layer_weights

SIXTEEN_BIT_PARTS = frozenset({"embedding", "lm_head", "norm", "bias", "router"})


def layer_parameters(architecture: ModelArchitecture, group: LayerGroup) -> int:
    """Parameters of one layer of a group, norms and biases included."""
    return _elements(layer_weights(architecture, group))


def parameters(architecture: ModelArchitecture) -> int:
    """Parameters of the whole model; a tied output projection counts once."""
    layers = sum(group.count * layer_parameters(architecture, group) for group in architecture.groups)
    return layers + _elements(_ends(architecture))


def active_parameters(architecture: ModelArchitecture) -> int:
    """Parameters one token visits: everything but the experts it is not routed to, embeddings included."""
    layers = sum(
        group.count * sum(weight.active_elements for weight in layer_weights(architecture, group))
        for group in architecture.groups
    )
    return layers + _elements(_ends(architecture))


def active_matmul_parameters(architecture: ModelArchitecture) -> int:
    """Elements of the layers' matrices that one token is multiplied by; the output projection is not among them."""
    return sum(
        group.count * sum(weight.active_elements for weight in layer_weights(architecture, group) if weight.multiplies)
        for group in architecture.groups
    )


def weight_bytes(
    architecture: ModelArchitecture, weight_dtype: str, *, tp: int = 1, layers: LayerRange | None = None
) -> float:
    """Bytes of weights on one tensor-parallel rank of one pipeline stage; `layers` None: of the whole model.

    Embeddings are on the first stage, final norm and output projection on the last (a tied table on both). Matrices
    are divided by tp, KV heads are repeated where tp exceeds them, the vocabulary is padded up; norms, routers, latent
    down-projections and biases of outputs are on every rank. Matrices are in `weight_dtype` or the architecture's
    `stored_dtypes`; embeddings, output projection, norms, biases and routers have at least 16 bit.
    """
    stage = layers or _all_layers(architecture)
    first, last = stage.start == 0, stage.stop == stage.total
    total = 0.0
    for group in architecture.groups:
        if count := stage.count(group):
            total += count * _bytes(architecture, layer_weights(architecture, group, tp), weight_dtype)
    if first:
        total += _bytes(architecture, embedding_weights(architecture, tp), weight_dtype)
    if last:
        shares = first and architecture.tie_word_embeddings
        total += _bytes(architecture, head_weights(architecture, tp, shares_embedding=shares), weight_dtype)
    return total


def kv_bytes_per_token(
    architecture: ModelArchitecture, kv_cache_dtype: str, *, tp: int = 1, layers: LayerRange | None = None
) -> float:
    """KV cache bytes of one token on one rank of one stage, before any sliding window lets go of it.

    2 x KV heads x head_dim elements a layer; latent attention keeps kv_lora_rank + qk_rope_head_dim on every rank.
    """
    stage = layers or _all_layers(architecture)
    elements = sum(stage.count(group) * _cached_elements(group.attention, tp) for group in architecture.groups)
    return elements * bytes_per_element(kv_cache_dtype)


def visible_pairs(new_tokens: Size, context_tokens: Size, window: int = 0) -> Size:
    """(query, key) pairs a head scores: new token i = 1..n after c cached ones sees min(c + i, window) keys."""
    if not window:
        return new_tokens * context_tokens + new_tokens * (new_tokens + 1.0) / 2.0
    # the first `growing` new tokens still see everything, the others exactly a window
    growing = np.clip(window - np.asarray(context_tokens, dtype=np.float64), 0.0, new_tokens)
    pairs = growing * context_tokens + growing * (growing + 1.0) / 2.0 + (new_tokens - growing) * window
    return pairs if np.ndim(pairs) else float(pairs)


def forward_flop(architecture: ModelArchitecture, new_tokens: Size, context_tokens: Size) -> Size:
    """Flop for `new_tokens` of one sequence after `context_tokens` cached ones; the head is for the last token only.

    2 flop per matrix element a token visits, and 2 x visible pairs x heads x (query-key + value dimensions).
    """
    flop = 2.0 * active_matmul_parameters(architecture) * new_tokens
    for group in architecture.groups:
        pairs = visible_pairs(new_tokens, context_tokens, group.attention.window)
        flop = flop + 2.0 * group.count * pairs * _pair_width(group.attention)
    head = head_weights(architecture, shares_embedding=False)
    return flop + 2.0 * sum(weight.elements for weight in head if weight.multiplies)


def _all_layers(architecture: ModelArchitecture) -> LayerRange:
    return LayerRange(0, architecture.num_layers, architecture.num_layers)


def _ends(architecture: ModelArchitecture) -> list[Weight]:
    head = head_weights(architecture, shares_embedding=architecture.tie_word_embeddings)
    return embedding_weights(architecture) + head


def _elements(weights: Iterable[Weight]) -> int:
    return sum(weight.elements for weight in weights)


def _bytes(architecture: ModelArchitecture, weights: Iterable[Weight], weight_dtype: str) -> float:
    stored = dict(architecture.stored_dtypes)
    wide = max(2.0, bytes_per_element(weight_dtype))
    total = 0.0
    for weight in weights:
        if weight.part in stored:
            size = bytes_per_element(stored[weight.part])
        else:
            size = wide if weight.part in SIXTEEN_BIT_PARTS else bytes_per_element(weight_dtype)
        total += weight.elements * size
    return total


def _cached_elements(spec: Attention, tp: int) -> int:
    if isinstance(spec, LatentAttentionSpec):
        return spec.kv_lora_rank + spec.qk_rope_head_dim
    return 2 * kv_heads_per_rank(spec, tp) * spec.head_dim


def _pair_width(spec: Attention) -> int:
    """Heads times the dimensions of a score and of a value."""
    if isinstance(spec, LatentAttentionSpec):
        return spec.heads * (spec.qk_nope_head_dim + spec.qk_rope_head_dim + spec.v_head_dim)
    return 2 * spec.heads * spec.head_dim
