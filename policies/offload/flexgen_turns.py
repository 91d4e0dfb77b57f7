"""What FlexGen's schedule takes, turn by turn, as a linear programme: each turn lasts as long as its longest path.

In a turn one batch passes one part while what comes next is loaded and what came before is stored, and all of it ends
before the next turn (`policies.offload.block_schedule`). Turns that do alike are one variable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.offload.block_plan import Part
from policies.offload.flexgen_cost import BlockCost, Expression, Shares

if TYPE_CHECKING:
    import pulp


@dataclass(frozen=True, slots=True)
class TurnKind:
    """Turns of one part that do alike: how many there are, and what they move beside activations."""

    part: Part
    count: int
    weights: Part | None  # loaded meanwhile
    loads_cache: bool  # of the next turn
    stores_cache: bool  # of the turn before
    cached: Part  # whose cache that is


class TurnCost(BlockCost):
    """The schedule's own seconds, but for bytes that wait in line behind others of the same turn."""

    def block_s(self, problem: pulp.LpProblem, shares: Shares) -> Expression:
        """Of all turns, prompts' and decoding ones at the mean context."""
        total: Expression = 0.0
        for phase, tokens, steps in (("prefill", self._job.prompt_tokens, 1), ("decode", 1, self.decode_steps)):
            if not steps:
                continue
            for number, kind in enumerate(self._kinds()):
                longest = problem.add_variable(f"{phase}_{number}", 0)
                for path in self._paths(kind, shares, tokens, prefill=phase == "prefill"):
                    problem += longest >= path
                total += longest * (kind.count * steps)
        return total

    def _kinds(self) -> list[TurnKind]:
        """Of a step: each layer's attention and MLP by batch, then the model's two ends."""
        found: list[TurnKind] = []
        last = self._batches - 1
        for (kind, shape), count in self._counts.items():
            if kind != "attention":
                continue
            attention, mlp = self._parts["attention", shape], self._parts["mlp", shape]
            for batch, times in self._batch_kinds():
                found += [
                    TurnKind(attention, times * count, None if batch else mlp, batch < last, batch > 0, attention),
                    TurnKind(mlp, times * count, None if batch else attention, batch == last, batch == 0, attention),
                ]
        ends = [self._parts["embedding", 0], self._parts["head", 0]]
        any_attention = found[0].cached
        return [*found, *(TurnKind(end, self._batches, None, False, False, any_attention) for end in ends)]

    def _batch_kinds(self) -> list[tuple[int, int]]:
        """A batch of each kind (first, middle, last), and how many are alike."""
        count = self._batches
        if count <= 2:
            return [(batch, 1) for batch in range(count)]
        return [(0, 1), (1, count - 2), (count - 1, 1)]

    def _paths(self, kind: TurnKind, shares: Shares, tokens: int, *, prefill: bool) -> list[Expression]:
        """Seconds of everything in a turn that runs one after another."""
        w, c, h, s = shares["weights"], shares["kv"], shares["activations"], self._s
        hidden = self._job.hidden_bytes * self._batch * tokens
        token = kind.cached.kv_bytes * self._bare.kv_factor * self._batch
        weights = kind.weights.weight_bytes * self._bare.weight_factor if kind.weights else 0.0
        on_cpu = self.block.cpu_attention
        cache = token * self._context if kind.loads_cache and not prefill else 0.0
        stored = token * tokens if kind.stores_cache else 0.0
        sent = stored if prefill or not on_cpu else 0.0
        copied = 0.0 if on_cpu else cache
        up_cache = c["host"] * s("h2d_pageable", copied) + c["storage"] * s("h2d", copied)
        up = (w["host"] + w["storage"]) * s("h2d", weights) + up_cache + self._up(h, hidden)
        read = w["storage"] * s("read", weights) + c["storage"] * s("read", cache) + h["storage"] * s("read", hidden)
        down = c["host"] * s("d2h_cache", sent) + c["storage"] * s("d2h", sent) + self._down(h, hidden)
        write = c["storage"] * s("write", stored) + h["storage"] * s("write", hidden)
        compute = self._computing(kind.part, shares, tokens, prefill=prefill)
        if self._batches == 1:  # a batch's own activations come before it and go after it
            compute = compute + self._up(h, hidden) + self._down(h, hidden)
        through = read + (w["storage"] * s("h2d", weights) if not copied else c["storage"] * s("h2d", copied))
        return [up, through, down, read + write, write + c["storage"] * s("d2h", sent), compute]

    def _computing(self, part: Part, shares: Shares, tokens: int, *, prefill: bool) -> Expression:
        """On GPU and CPU, one after the other."""
        seconds = self._compute_s(part, tokens) if prefill else self._compute_s(part, 1)
        if prefill or not part.kv_bytes:
            return seconds
        attention = self._attention_s(part, self._context)
        if not self.block.cpu_attention:
            return seconds + attention
        c = shares["kv"]
        exchanged = self._job.hidden_bytes * self._batch
        cpu = self._cpu_s(part, self._context)
        cpu += self._s("d2h_activation", exchanged + part.kv_bytes * self._batch) + self._s("h2d_pageable", exchanged)
        return seconds + c["gpu"] * attention + (c["host"] + c["storage"]) * cpu
