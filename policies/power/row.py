"""The types that policies for a row of servers speak: what they see of it, and which clocks they order."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, Protocol

Pool = Literal["low", "high"]  # priority of the servers' work


@dataclass(frozen=True, slots=True)
class Locks:
    """Core clocks in MHz that the GPUs of each pool are locked at; None: not locked."""

    low_mhz: float | None = None
    high_mhz: float | None = None
    training_mhz: float | None = None  # of a training that shares the row


UNLOCKED = Locks()


class TrainingProfile(Protocol):
    """What a training that shares a row draws, from its own step priced at each clock."""

    @property
    def clocks_mhz(self) -> tuple[float, ...]:
        """Clocks that it may be locked at, rising, all below its own."""
        ...

    def watts(self, mhz: float | None) -> float:
        """At the wall, the highest mean over a reading; None: at its own clock."""
        ...


@dataclass(frozen=True, slots=True)
class RowView:
    """A row as its controller knows it."""

    now_s: float
    watts: float  # the last reading
    limit_w: float  # of the breaker
    ordered: Locks  # the last order
    in_effect: bool  # has it been carried out?
    acting: Locks = UNLOCKED  # the last order that was
    settled_s: float = inf  # since then, and since the brake was let go
    highest_w: float = 0.0  # of the readings that `RowPolicy.looks_back_s` goes back
    training: TrainingProfile | None = None  # None: the row only serves
    has_low_priority: bool = True

    @property
    def load(self) -> float:
        """Share of the limit."""
        return self.watts / self.limit_w


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPolicy:
    """Which clocks to order after a reading; the power brake is the hardware's own, and stands beside it."""

    def decide(self, view: RowView) -> Locks:
        """The clocks to be at from now on."""
        raise NotImplementedError

    @property
    def clocks_mhz(self) -> tuple[float, ...]:
        """Every clock that it may order."""
        raise NotImplementedError

    @property
    def needs_low_priority(self) -> bool:
        """Does it cap servers of low priority apart from the others?"""
        return False

    @property
    def needs_training(self) -> bool:
        """Does it slow a training that shares the row?"""
        return False

    @property
    def looks_back_s(self) -> float:
        """How far the highest reading of its view goes back; 0: the last one alone."""
        return 0.0

    @property
    def first_fraction(self) -> float:
        """Share of the limit below which it leaves an unlocked row alone."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeOnly(RowPolicy):
    """Orders nothing: a row that nears its limit is caught by the brake alone."""

    def decide(self, view: RowView) -> Locks:
        """No locks."""
        return UNLOCKED

    @property
    def clocks_mhz(self) -> tuple[float, ...]:
        """None."""
        return ()

    @property
    def first_fraction(self) -> float:
        """It always does."""
        return inf
