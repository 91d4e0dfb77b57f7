"""Number formats of a deployed model, and which parts of it a narrow format leaves alone."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.dtypes import bytes_per_element


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtypes:
    """Formats of weights, of the arithmetic on activations, and of the KV cache."""

    weight: str
    activation: str
    kv_cache: str

    @property
    def residual(self) -> str:
        """Format of activations between matrix products: narrow formats exist inside products only."""
        return kept_dtype(self.activation)

    @property
    def kept(self) -> str:
        """Format of the weights that quantised checkpoints leave alone: embeddings, head, router, norms, biases."""
        return kept_dtype(self.weight)


def kept_dtype(dtype: str) -> str:
    """The format itself, or bf16 where it is narrower than 16 bits."""
    return dtype if bytes_per_element(dtype) >= 2 else "bf16"
