"""Shapes of real models, from the configs of `workloads/models/catalog`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one decoder model; experts 0: dense."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    experts: int
    top_k: int

    def projections(self, ranks: int) -> list[tuple[int, int]]:
        """(n, k) of the matrices of a layer, sharded over `ranks`: QKV, output, gate and up, down (dense only)."""
        kv = max(1, self.kv_heads // ranks)
        query = self.heads // ranks * self.head_dim
        shapes = [(query + 2 * kv * self.head_dim, self.hidden), (self.hidden, query)]
        if not self.experts:
            inner = self.intermediate // ranks
            shapes += [(2 * inner, self.hidden), (self.hidden, inner)]
        return shapes


def shape_of(name: str) -> Shape:
    """Sizes of a model of the catalog."""
    text = (files("workloads") / "models" / "catalog" / f"{name}.json").read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    heads = config["num_attention_heads"]
    return Shape(
        hidden=config["hidden_size"],
        intermediate=config.get("moe_intermediate_size", config["intermediate_size"]),
        heads=heads,
        kv_heads=config.get("num_key_value_heads", heads),
        head_dim=config.get("head_dim", config["hidden_size"] // heads),
        vocabulary=config["vocab_size"],
        experts=config.get("num_local_experts", config.get("num_experts", config.get("n_routed_experts", 0))),
        top_k=config.get("num_experts_per_tok", 0),
    )
