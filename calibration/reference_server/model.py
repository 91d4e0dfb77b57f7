"""The forward pass: token numbers in, the most likely next token of each sampled row out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calibration.reference_server.attention import Attend, PagedAttention
from calibration.reference_server.batch import DeviceBatch
from calibration.reference_server.elementwise import Elementwise
from calibration.reference_server.experts import Experts
from calibration.reference_server.shape import ModelShape
from calibration.reference_server.weights import LayerWeights, Weights

Cache = Sequence[tuple[Any, Any]]  # a layer's keys and values: (blocks, block_size, kv heads, d) each


class Model:
    """A decoder whose residual stream is added to inside the norms, as serving engines fuse it."""

    def __init__(
        self,
        torch: Any,
        shape: ModelShape,
        weights: Weights,
        elementwise: Elementwise,
        attention: PagedAttention,
        experts: Experts,
    ) -> None:
        self._torch, self._linear = torch, torch.nn.functional.linear
        self.shape, self._weights = shape, weights
        self._elementwise, self._attention, self._experts = elementwise, attention, experts

    def next_tokens(self, batch: DeviceBatch, cache: Cache) -> Any:
        """Greedy samples: (samples,) int64."""
        return self.logits(batch, cache).argmax(-1)

    def logits(self, batch: DeviceBatch, cache: Cache) -> Any:
        """(samples, vocab); writes the rows' keys and values into the cache."""
        weights, add_norm = self._weights, self._elementwise.add_norm
        x = weights.embedding.index_select(0, batch.tokens)
        residual = self._torch.zeros_like(x)
        attend = self._attention.prepare(batch.chunks, batch.decodes)
        for layer, (keys, values) in zip(weights.layers, cache, strict=True):
            x = self._attend(add_norm(x, residual, layer.input_norm), layer, batch, attend, keys, values)
            x = self._mlp(add_norm(x, residual, layer.mlp_norm), layer)
        x = add_norm(x, residual, weights.final_norm)
        if batch.sample_rows is not None:
            x = x.index_select(0, batch.sample_rows)
        return self._linear(x, weights.head)

    def _attend(self, x: Any, layer: LayerWeights, batch: DeviceBatch, attend: Attend, keys: Any, values: Any) -> Any:
        qkv = self._linear(x, layer.qkv, layer.qkv_bias)
        query, key, value = self._elementwise.rotate_and_store(qkv, batch.positions, batch.slots, keys, values)
        return self._linear(attend(query, key, value, keys, values).flatten(1), layer.output)

    def _mlp(self, x: Any, layer: LayerWeights) -> Any:
        if self.shape.experts:
            return self._experts(x, layer)
        return self._linear(self._elementwise.gate(self._linear(x, layer.up)), layer.down)
