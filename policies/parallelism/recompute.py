"""Which activations a layer keeps for its backward, and what it computes again instead.

Selective and full recomputation: Korthikanti et al. (arXiv 2205.05198), sections 4 and 5. Recomputation of norms and
other modules whose outputs are let go of: Megatron Core's `--recompute-modules`; DeepSeek-V3 (arXiv 2412.19437),
section 3.2.3, of norms, latent attention's up-projections and activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from workloads.training.operator import TrainingOperator

Operators = tuple[TrainingOperator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompute:
    """Keeps every activation; nothing is computed again."""

    def again(self, layer: Operators, index: int) -> Operators:
        """Operators whose forward runs again before the backward of the `index`-th layer of a stage."""
        return ()

    def saved_bytes(self, layer: Operators, input_bytes: float, index: int) -> float:
        """Kept of the `index`-th layer of a stage; `input_bytes`: what comes into it."""
        again = self.again(layer, index)
        if again == layer and layer:
            return input_bytes
        repeated = {one.name for one in again}
        saved = 0.0
        for one in layer:
            saved += one.input_bytes if one.name in repeated else one.saved_bytes
            saved -= one.input_bytes if one.fed_by in repeated else 0.0  # comes again with the one that made it
        return saved


Module = Literal["core_attn", "layernorm", "mla_up_proj", "mlp_act", "moe_act"]
PARTS: dict[str, str] = {"core_attn": "attention_core", "layernorm": "norm"}
NAMES: dict[str, tuple[str, ...]] = {
    "mla_up_proj": ("q_up_proj", "kv_up_proj", "rope"),
    "mlp_act": ("activation",),
    "moe_act": ("experts_activation", "shared_activation"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selective(Recompute):
    """Computes again what takes much memory and little arithmetic: by default what attention makes of queries, keys
    and values; or other modules, in Megatron Core's words.
    """

    modules: tuple[Module, ...] = ("core_attn",)

    def again(self, layer: Operators, index: int) -> Operators:
        """Operators of these modules; positions are applied again with latent attention's up-projections alone."""
        parts = {PARTS[module] for module in self.modules if module in PARTS}
        names = {name for module in self.modules for name in NAMES.get(module, ())}
        if not any(one.name == "kv_up_proj" for one in layer):
            names.discard("rope")
        return tuple(one for one in layer if one.part in parts or one.name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Full(Recompute):
    """Keeps what comes into a layer, of all layers of a stage or of its first `num_layers`."""

    num_layers: Annotated[int, Interval(ge=0)] | None = None

    def again(self, layer: Operators, index: int) -> Operators:
        """The whole layer."""
        return layer if self.num_layers is None or index < self.num_layers else ()


RECOMPUTE: dict[str, type[Recompute]] = {"none": Recompute, "selective": Selective, "full": Full}
