"""How a model is split: layers over pipeline stages, attention heads over tensor-parallel ranks."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import ImpossibleError
from workloads.models.architecture import Attention, AttentionSpec, LayerGroup, ModelArchitecture


@dataclass(frozen=True, slots=True)
class LayerRange:
    """The layers of one pipeline stage: start <= layer < stop, of `total`."""

    start: int
    stop: int
    total: int

    def count(self, group: LayerGroup) -> int:
        """How many layers of a group are in the range."""
        return sum(self.start <= layer < self.stop for layer in group.layers)


def split_layers(num_layers: int, stages: int) -> list[LayerRange]:
    """Even pipeline stages; left-over layers go one each to the stages before the last, which has the head (vLLM)."""
    base, left = divmod(num_layers, stages)
    sizes = [base] * stages
    for i in range(left):
        sizes[-(i + 2)] += 1
    ranges, start = [], 0
    for size in sizes:
        ranges.append(LayerRange(start, start + size, num_layers))
        start += size
    return ranges


def check_tensor_parallel(architecture: ModelArchitecture, tp: int) -> None:
    """Raise ImpossibleError unless every rank gets the same number of heads, and of KV heads or one copy of one
    (vLLM).
    """
    specs = {group.attention for group in architecture.groups}
    if any(not _fits(spec, tp) for spec in specs):
        most = max(spec.heads for spec in specs)
        fits = ", ".join(str(n) for n in range(1, most + 1) if all(_fits(spec, n) for spec in specs))
        shape = " and ".join(sorted({_heads_in_words(spec) for spec in specs}))
        raise ImpossibleError(
            f"serving.tensor_parallel_size = {tp}: does not divide the {shape} of {architecture.name}; accepted: {fits}"
        )


def kv_heads_per_rank(spec: AttentionSpec, tp: int) -> int:
    """KV heads on one rank; with more ranks than KV heads each head is kept on several."""
    return -(-spec.kv_heads // tp)


def _fits(spec: Attention, tp: int) -> bool:
    if tp < 1 or spec.heads % tp:
        return False
    return not isinstance(spec, AttentionSpec) or spec.kv_heads % tp == 0 or tp % spec.kv_heads == 0


def _heads_in_words(spec: Attention) -> str:
    if isinstance(spec, AttentionSpec) and spec.kv_heads != spec.heads:
        return f"{spec.heads} attention heads ({spec.kv_heads} KV heads)"
    return f"{spec.heads} attention heads"
