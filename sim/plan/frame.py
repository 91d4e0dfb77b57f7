"""What plans of every kind are made of: candidates at several sizes, proofs, trials, and the outcome of a search.

A ladder is one way to do a job at several sizes (rungs 1, 2, ...): replicas of a deployment, or a single rung for a
plan that comes in one size. `sim.plan.search` finds the best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Proof:
    """What can be said of a ladder without simulating."""

    first: int  # no rung below this one does
    reason: str  # why, in words; of an impossible ladder why none does
    impossible: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """What simulating one rung said."""

    rung: int
    met: bool
    value: float  # of the objective
    miss: float  # largest ratio of what was reached to its limit; above 1 where it is missed
    reason: str  # in words
    tie: float = 0.0  # what decides between equal values, before the room under the limits: lower is better
    evidence: Any = field(default=None, repr=False)

    @property
    def rank(self) -> tuple[float, float, float]:
        """Lower is better: the objective, what decides ties, then room under the limits."""
        return self.value, self.tie, self.miss


class Ladder(Protocol):
    """One kind of candidate at several sizes."""

    @property
    def name(self) -> str:
        """In a table."""

    @property
    def last(self) -> int:
        """Largest rung of the space."""

    def size(self, rung: int) -> str:
        """A rung in words: `3 nodes`."""

    def floor(self, rung: int) -> float:
        """Proved least value of the objective at a rung: it never falls with the rung."""

    def prove(self) -> Proof:
        """What is known without simulating; called once, when the ladder's turn comes."""

    def verify(self, rung: int) -> Trial:
        """Simulate a rung."""


@dataclass
class Candidate:
    """A ladder and what the search found out about it."""

    ladder: Ladder
    order: int
    proof: Proof | None = None
    trials: dict[int, Trial] = field(default_factory=dict)
    lost: str = ""  # why it is not the answer
    untried: int = 0  # rungs no dearer than the answer for which "more is never worse" stands in
    reach: int = 1  # rung to try next while nothing has been found

    @property
    def best(self) -> Trial | None:
        """The best of its rungs that met the limits."""
        met = [trial for trial in self.trials.values() if trial.met]
        return min(met, key=lambda trial: trial.rank, default=None)

    @property
    def nearest(self) -> Trial | None:
        """Of the rungs that missed, the one that missed by least."""
        missed = [trial for trial in self.trials.values() if not trial.met]
        return min(missed, key=lambda trial: (trial.miss, -trial.rung), default=None)

    @property
    def bound(self) -> float:
        """Proved least value of the objective; infinite where it is impossible."""
        if self.proof is None:
            return self.ladder.floor(1)
        return math.inf if self.proof.impossible else self.ladder.floor(self.proof.first)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a search; candidates in order: the winner, those that also did, those that did not."""

    candidates: list[Candidate]
    simulations: int
    exhaustive: bool

    @property
    def winner(self) -> Candidate | None:
        """The best that was verified."""
        first = self.candidates[0] if self.candidates else None
        return first if first is not None and first.best is not None else None

    @property
    def untried(self) -> int:
        """Rungs that the answer rests on without a simulation."""
        return sum(candidate.untried for candidate in self.candidates)


def rank(candidate: Candidate) -> tuple[float, float, float, float, int]:
    """Those that do by value, then those that simulation saw by how far they missed, then by bound."""
    best, nearest = candidate.best, candidate.nearest
    if best is not None:
        return (0.0, *best.rank, candidate.order)
    if nearest is not None:
        return 1.0, nearest.miss, candidate.bound, 0.0, candidate.order
    return 2.0, candidate.bound, 0.0, 0.0, candidate.order
