"""Power policies by the names that a scenario uses, and the types they speak."""

from policies.power.governor import ClockGovernor
from policies.power.one_threshold import OneThreshold
from policies.power.polca import Polca
from policies.power.row import UNLOCKED, BrakeOnly, Locks, RowPolicy, RowView
from policies.power.slo_clock import SloClock

ROW_POLICIES: dict[str, type[RowPolicy]] = {
    "brake_only": BrakeOnly,
    "one_threshold": OneThreshold,
    "polca": Polca,
}

GOVERNORS: dict[str, type[ClockGovernor]] = {"slo_clock": SloClock}

__all__ = ["GOVERNORS", "ROW_POLICIES", "UNLOCKED", "ClockGovernor", "Locks", "RowPolicy", "RowView"]
