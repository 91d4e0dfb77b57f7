"""A layer of routed experts: each token visits its top-k, weighted by the softmax over them (Mixtral, 2024)."""

from __future__ import annotations

from typing import Any

from calibration.reference_server.elementwise import Elementwise
from calibration.reference_server.shape import ModelShape
from calibration.reference_server.weights import LayerWeights


class Experts:
    """`loop`: one expert after another. `grouped`: rows sorted by expert and one grouped product for all, without a
    wait for the host, so that graphs can hold it.
    """

    def __init__(self, torch: Any, shape: ModelShape, elementwise: Elementwise, name: str) -> None:
        self._torch, self._shape, self._elementwise = torch, shape, elementwise
        self._product = self._grouped if name == "grouped" else self._loop
        if name == "grouped" and shape.experts:
            functional = torch.nn.functional
            self._grouped_mm: Any = getattr(functional, "grouped_mm", None) or torch._grouped_mm

    def __call__(self, x: Any, layer: LayerWeights) -> Any:
        """(rows, hidden) to the same."""
        torch, shape = self._torch, self._shape
        logits = torch.nn.functional.linear(x, layer.router).float()
        scores, chosen = logits.topk(shape.top_k, dim=-1)
        weights = scores.softmax(-1)  # (rows, top_k)
        order = chosen.view(-1).argsort(stable=True)  # (rows x top_k,) visits, sorted by expert
        visits = self._product(x.index_select(0, order // shape.top_k), chosen.view(-1), layer)
        back = torch.empty_like(visits).index_copy_(0, order, visits)
        return (back.view(-1, shape.top_k, shape.hidden) * weights.unsqueeze(-1).to(x.dtype)).sum(1)

    def _loads(self, chosen: Any) -> Any:
        """Visits of each expert: (experts,)."""
        numbers = self._torch.arange(self._shape.experts, device=chosen.device)
        return (chosen.unsqueeze(0) == numbers.unsqueeze(1)).sum(1)

    def _grouped(self, rows: Any, chosen: Any, layer: LayerWeights) -> Any:
        ends = self._loads(chosen).cumsum(0).to(self._torch.int32)
        both = self._grouped_mm(rows, layer.up.transpose(-2, -1), offs=ends)
        return self._grouped_mm(self._elementwise.gate(both), layer.down.transpose(-2, -1), offs=ends)

    def _loop(self, rows: Any, chosen: Any, layer: LayerWeights) -> Any:
        linear = self._torch.nn.functional.linear
        loads = self._loads(chosen).tolist()
        parts = [
            linear(self._elementwise.gate(linear(part, layer.up[expert])), layer.down[expert])
            for expert, part in enumerate(rows.split(loads))
            if len(part)
        ]
        return self._torch.cat(parts)
