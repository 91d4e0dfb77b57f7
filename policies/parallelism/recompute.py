"""Which activations a layer keeps for its backward, and what it computes again instead.

Selective and full recomputation: Korthikanti et al. (arXiv 2205.05198), sections 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from workloads.training.operator import TrainingOperator

Operators = tuple[TrainingOperator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompute:
    """Keeps everything; subclasses keep less."""

    def again(self, layer: Operators, index: int) -> Operators:
        """Operators whose forward runs again before the backward of the `index`-th layer of a stage."""
        return ()

    def saved_bytes(self, layer: Operators, input_bytes: float, index: int) -> float:
        """Kept of the `index`-th layer of a stage; `input_bytes`: what comes into it."""
        again = self.again(layer, index)
        if again == layer and layer:
            return input_bytes
        return sum(one.input_bytes if one in again else one.saved_bytes for one in layer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selective(Recompute):
    """Computes again what attention makes of queries, keys and values: much memory, little arithmetic."""

    def again(self, layer: Operators, index: int) -> Operators:
        """Scores, softmax and values."""
        return tuple(one for one in layer if one.part == "attention_core")


@dataclass(frozen=True, slots=True, kw_only=True)
class Full(Recompute):
    """Keeps what comes into a layer, of all layers of a stage or of its first `num_layers`."""

    num_layers: int | None = None

    def again(self, layer: Operators, index: int) -> Operators:
        """The whole layer."""
        return layer if self.num_layers is None or index < self.num_layers else ()


RECOMPUTE: dict[str, type[Recompute]] = {"none": Recompute, "selective": Selective, "full": Full}
