"""How many steps and tokens a training takes by its batch size, and a batch that grows while it trains.

McCandlish et al., "An Empirical Model of Large-Batch Training" (arXiv 1812.06162), section 2.3: to the same loss a
batch of B tokens takes S_min (1 + B_crit / B) steps, and E_min (1 + B / B_crit) tokens, where B_crit = E_min / S_min is
the gradient's noise scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from hardware_models.errors import ImpossibleError

KEY = "training.rampup_batch_size"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingGoal:
    """A loss that a batch far below the critical one reaches after `minimum_tokens`."""

    minimum_tokens: float
    critical_batch_tokens: float | None = None  # None: every token counts as much whatever the batch

    @property
    def minimum_steps(self) -> float:
        """That a batch far above the critical one needs."""
        return 0.0 if self.critical_batch_tokens is None else self.minimum_tokens / self.critical_batch_tokens

    def worth(self, batch_tokens: float) -> float:
        """Part of a token of a small batch that a token of this one is worth."""
        return 1.0 if self.critical_batch_tokens is None else 1.0 / (1.0 + batch_tokens / self.critical_batch_tokens)

    def tokens(self, batch_tokens: float) -> float:
        """All of a training at one batch size."""
        return self.minimum_tokens / self.worth(batch_tokens)

    def steps(self, batch_tokens: float) -> float:
        """All of a training at one batch size; the last may be part of one."""
        return self.tokens(batch_tokens) / batch_tokens


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps with one batch size, in sequences."""

    batch: int
    steps: float


@dataclass(frozen=True, slots=True)
class BatchRamp:
    """From `start` sequences by `increment` to the full batch, each for an equal part of `samples` (Megatron-LM's
    rampup-batch-size).
    """

    start: int
    increment: int
    samples: int

    def check(self, full: int, multiple: int) -> None:
        """Raise ImpossibleError where it does not lead to the full batch, or a batch is not shared by all copies."""
        given = f"{KEY} = [{self.start}, {self.increment}, {self.samples}]"
        if self.start < 1 or self.increment < 1 or self.start > full or (full - self.start) % self.increment:
            raise ImpossibleError(
                f"{given}: does not go from {self.start} to global_batch_size = {full} in whole steps of"
                f" {self.increment}; give a start below it and an increment that divides the difference"
            )
        if self.start % multiple or self.increment % multiple:
            raise ImpossibleError(
                f"{given}: start and increment must be multiples of micro_batch_size x data-parallel ranks = {multiple}"
            )

    def batches(self, full: int) -> list[int]:
        """Sizes before the full one."""
        return list(range(self.start, full, self.increment))


def phases(goal: TrainingGoal, full: int, seq_length: int, ramp: BatchRamp | None = None) -> list[Phase]:
    """Batch sizes of a training one after another until its goal is reached; the last step may be part of one."""
    left = goal.minimum_tokens
    sizes = ramp.batches(full) if ramp is not None else []
    each = ramp.samples / len(sizes) if ramp is not None and sizes else 0.0
    found = []
    for batch, samples in [*((size, each) for size in sizes), (full, inf)]:
        worth = goal.worth(batch * seq_length)
        taken = min(samples, left / (worth * seq_length))
        found.append(Phase(batch, taken / batch))
        left -= taken * seq_length * worth
        if left <= goal.minimum_tokens * 1e-15:
            break
    return found
