"""Random weights of a model shape: what they are does not change how long a step takes, except through routing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calibration.reference_server.shape import ModelShape


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer; matrices are (outputs, inputs) as in torch.nn.functional.linear."""

    input_norm: Any  # (hidden,)
    qkv: Any  # ((heads + 2 kv_heads) x head_dim, hidden)
    qkv_bias: Any  # or None
    output: Any  # (hidden, heads x head_dim)
    mlp_norm: Any  # (hidden,)
    router: Any  # (experts, hidden), or None
    up: Any  # (2 x intermediate, hidden), gate before up; of experts: (experts, 2 x intermediate, hidden)
    down: Any  # (hidden, intermediate); of experts: (experts, hidden, intermediate)


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole model."""

    embedding: Any  # (vocab, hidden)
    layers: list[LayerWeights]
    final_norm: Any
    head: Any  # (vocab, hidden)


def random_weights(torch: Any, shape: ModelShape, dtype: Any, device: str, seed: int) -> Weights:
    """Normal weights of variance 1 / inputs, so that activations and logits keep the size that trained ones have."""
    generator = torch.Generator(device=device).manual_seed(seed)

    def matrix(*sizes: int) -> Any:
        values = torch.empty(*sizes, dtype=dtype, device=device)
        return values.normal_(0.0, sizes[-1] ** -0.5, generator=generator)

    def ones() -> Any:
        return torch.ones(shape.hidden, dtype=dtype, device=device)

    def layer() -> LayerWeights:
        stack = (shape.experts,) if shape.experts else ()
        width = shape.qkv_heads * shape.head_dim
        return LayerWeights(
            input_norm=ones(),
            qkv=matrix(width, shape.hidden),
            qkv_bias=matrix(width) if shape.qkv_bias else None,
            output=matrix(shape.hidden, shape.heads * shape.head_dim),
            mlp_norm=ones(),
            router=matrix(shape.experts, shape.hidden) if shape.experts else None,
            up=matrix(*stack, 2 * shape.intermediate, shape.hidden),
            down=matrix(*stack, shape.hidden, shape.intermediate),
        )

    embedding = torch.empty(shape.vocab, shape.hidden, dtype=dtype, device=device).normal_(generator=generator)
    layers = [layer() for _ in range(shape.layers)]
    head = embedding if shape.tied else matrix(shape.vocab, shape.hidden)
    return Weights(embedding, layers, ones(), head)
