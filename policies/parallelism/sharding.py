"""What data-parallel ranks share out among themselves: optimizer state, gradients, weights (ZeRO: arXiv 1910.02054).

Fully sharded data parallel (FSDP, arXiv 2304.11277) is stage 3 with its own words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from annotated_types import Interval

from policies.parallelism.exchange import Hops, hop

MASTER_BYTES = 12.0  # fp32 weight and two moments of Adam, a parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """Nothing is shared out: every rank holds all, and gradients are all-reduced once a step."""

    overlap_grad_reduce: bool | None = None  # buckets go while the backward goes on; None: as the framework does
    overlap_param_gather: bool | None = None

    @property
    def stage(self) -> int:
        """ZeRO's: 1 shares out the optimizer, 2 gradients too, 3 weights too."""
        return 0

    @property
    def prefetch(self) -> int:
        """Layers gathered ahead of the one that computes, where weights are shared out."""
        return 0

    def placed(self, ranks: int, in_server: int) -> Self:
        """The same for so many copies, some in a server each; raises ImpossibleError where it cannot be."""
        return self

    def weight_parts(self, ranks: int) -> int:
        """Over how many copies weights are divided."""
        return ranks if self.stage >= 3 else 1

    def gradient_parts(self, ranks: int) -> int:
        """Over how many copies gradients are divided between micro-batches."""
        return ranks if self.stage >= 2 else 1

    def optimizer_parts(self, ranks: int) -> int:
        """Over how many copies the optimizer's state is divided."""
        return ranks if self.stage >= 1 else 1

    def gather(self, ranks: int, weight_width: float, *, backward: bool = False) -> Hops:
        """Weights made whole of which each copy has a part: before a pass, or after the optimizer's step."""
        return hop("all_gather", ranks, weight_width)

    def reduce(self, ranks: int, gradient_width: float) -> Hops:
        """Gradients of a backward added up: whole on every copy, or each copy its part."""
        return hop("reduce_scatter" if self.stage else "all_reduce", ranks, gradient_width)

    def finish(self, ranks: int, gradient_width: float) -> Hops:
        """What is still to add up after the last backward of a step."""
        return ()

    def refresh(self, ranks: int, weight_width: float) -> Hops:
        """Updated weights brought where the first gather of a step expects them, if they are not there."""
        return ()

    def weight_bytes(self, parameters: float, ranks: int, weight_width: float) -> float:
        """Held at rest on one rank."""
        return parameters * weight_width / self.weight_parts(ranks)

    def gradient_bytes(self, parameters: float, ranks: int, gradient_width: float) -> float:
        """Held from the first micro-batch to the optimizer's step."""
        return parameters * gradient_width / self.gradient_parts(ranks)

    def optimizer_parameters(self, parameters: float, ranks: int) -> float:
        """Whose state one rank holds, and updates."""
        return parameters / self.optimizer_parts(ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero1(Sharding):
    """Each rank updates its part of the weights: gradients are reduce-scattered, weights gathered, once a step."""

    @property
    def stage(self) -> int:
        """Optimizer state."""
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero2(Sharding):
    """Gradients are reduce-scattered after each micro-batch, and kept in parts."""

    @property
    def stage(self) -> int:
        """Optimizer state and gradients."""
        return 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero3(Sharding):
    """Weights too: each layer's are gathered before its forward and its backward, `prefetch_layers` ahead."""

    prefetch_layers: Annotated[int, Interval(ge=0)] = 1

    @property
    def stage(self) -> int:
        """Everything."""
        return 3

    @property
    def prefetch(self) -> int:
        """Layers gathered ahead."""
        return self.prefetch_layers
