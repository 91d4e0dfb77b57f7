"""One budget for a row that serves and trains: training pays first, then low priority, then high.

Bands and order are those of Facebook's Dynamo (Wu et al., ISCA 2016): above a threshold, power is cut to a target, out
of the lowest class that can give it, and let go only where it stays below. Training is the lowest class, since a step
that comes later keeps no user waiting (as batch work is in Thunderbolt, Li et al., OSDI 2020); `first` = "low" turns
the two lowest round. It gives what is needed and no more: the highest clock at which its own step draws little enough.
Servers that serve are locked as POLCA does. Both papers are as remembered; how watts become clocks is this project's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from hardware_models.errors import FleetcastError
from policies.power.row import Locks, RowPolicy, RowView, TrainingProfile

_KEY = {"training": "training_mhz", "low": "low_mhz", "high": "high_mhz"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedBudget(RowPolicy):
    """Fractions are of the row's limit; the threshold, its margin and clocks of serving are POLCA's, for A100s."""

    cap_fraction: float = 0.89  # from here on somebody pays
    target_fraction: float = 0.84  # to which watts are cut, and below which they must stay to be let go
    hold_s: float = 60.0  # for which they must have stayed there
    first: Literal["training", "low"] = "training"  # who pays before the other
    low_mhz: float = 1110.0
    high_mhz: float = 1305.0

    def __post_init__(self) -> None:
        if not 0.0 < self.target_fraction < self.cap_fraction:
            raise FleetcastError(
                f"target_fraction = {self.target_fraction:g}, cap_fraction = {self.cap_fraction:g}: the target must be"
                " above 0 and below the threshold; give for example 0.84 and 0.89"
            )
        if not self.hold_s >= 0.0:
            raise FleetcastError(f"hold_s = {self.hold_s:g}: give 0 s or more")
        if min(self.clocks_mhz) <= 0.0:
            raise FleetcastError(f"shared_budget's clocks {self.clocks_mhz}: give clocks above 0 MHz")

    def decide(self, view: RowView) -> Locks:
        """Slower above the threshold, a step back below the target, in between as before."""
        if view.load >= self.cap_fraction:
            return self._slowed(view)
        if view.in_effect and view.settled_s >= self.hold_s:
            return self._freed(view)
        return view.ordered

    def _slowed(self, view: RowView) -> Locks:
        """Watts that training gives are known beforehand, so that the next class pays at once where they will not do;
        high priority pays once all others do and it shows.
        """
        now, left_w, asked = view.ordered, view.watts, False
        for who in self._order(view):
            if who == "training":
                assert view.training is not None
                now, gives_w = self._training_slowed(view, view.training)
                asked, left_w = now != view.ordered, left_w - gives_w
                if left_w < self.cap_fraction * view.limit_w:
                    return now
            elif getattr(now, _KEY[who]) is not None:
                if not view.in_effect:
                    return now
            elif who == "high" and (asked or not view.in_effect):
                return now
            else:
                return self._locked(now, who)
        return now

    def _training_slowed(self, view: RowView, training: TrainingProfile) -> tuple[Locks, float]:
        """To the highest clock that cuts the row to its target, else the lowest; watts that this will have saved."""
        acting_w = training.watts(view.acting.training_mhz)
        mhz = _fitting(training, acting_w - (view.watts - self.target_fraction * view.limit_w))
        mhz = min(training.clocks_mhz[0] if mhz is None else mhz, _or(view.ordered.training_mhz, inf))
        return replace(view.ordered, training_mhz=mhz), acting_w - training.watts(mhz)

    def _freed(self, view: RowView) -> Locks:
        """Who was slowed last is let go first; training as far as the target lets it."""
        now, spare_w = view.ordered, self.target_fraction * view.limit_w - max(view.watts, view.highest_w)
        slowed = [who for who in self._order(view) if getattr(now, _KEY[who]) is not None]
        if spare_w <= 0.0 or not slowed:
            return now
        if slowed[-1] != "training":
            return replace(now, **{_KEY[slowed[-1]]: None})
        assert view.training is not None
        allowed_w = view.training.watts(now.training_mhz) + spare_w
        if view.training.watts(None) <= allowed_w:
            return replace(now, training_mhz=None)
        mhz = max(_or(now.training_mhz, 0.0), _or(_fitting(view.training, allowed_w), 0.0))
        return replace(now, training_mhz=mhz)

    def _order(self, view: RowView) -> list[str]:
        """Who pays, of those that there are."""
        there = {"training": view.training is not None, "low": view.has_low_priority, "high": True}
        lowest = ("training", "low") if self.first == "training" else ("low", "training")
        return [who for who in (*lowest, "high") if there[who]]

    def _locked(self, now: Locks, who: str) -> Locks:
        return replace(now, low_mhz=self.low_mhz) if who == "low" else replace(now, high_mhz=self.high_mhz)

    @property
    def clocks_mhz(self) -> tuple[float, ...]:
        """Of servers that serve; training has its own."""
        return self.low_mhz, self.high_mhz

    @property
    def needs_training(self) -> bool:
        """It pays first."""
        return True

    @property
    def looks_back_s(self) -> float:
        """A training's step may dip for seconds, which frees nothing."""
        return self.hold_s

    @property
    def first_fraction(self) -> float:
        """The threshold."""
        return self.cap_fraction


def _or(mhz: float | None, otherwise: float) -> float:
    return otherwise if mhz is None else mhz


def _fitting(training: TrainingProfile, watts: float) -> float | None:
    """The highest clock at which it draws no more, found by halving since watts rise with the clock; None: none."""
    clocks, low, high = training.clocks_mhz, 0, len(training.clocks_mhz)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if training.watts(clocks[middle]) <= watts else (low, middle)
    return clocks[low - 1] if low else None
