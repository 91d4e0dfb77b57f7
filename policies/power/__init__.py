"""Power policies by the names that a scenario uses, and the types they speak."""

from policies.power.always_on import AlwaysOn
from policies.power.energy_per_load import EnergyPerLoad
from policies.power.governor import ClockGovernor
from policies.power.one_threshold import OneThreshold
from policies.power.polca import Polca
from policies.power.row import UNLOCKED, BrakeOnly, Locks, RowPolicy, RowView
from policies.power.scaler import Scaler
from policies.power.shared_budget import SharedBudget
from policies.power.slo_clock import SloClock

ROW_POLICIES: dict[str, type[RowPolicy]] = {
    "brake_only": BrakeOnly,
    "one_threshold": OneThreshold,
    "polca": Polca,
    "shared_budget": SharedBudget,
}

GOVERNORS: dict[str, type[ClockGovernor]] = {"slo_clock": SloClock}

SCALERS: dict[str, type[Scaler]] = {"always_on": AlwaysOn, "energy_per_load": EnergyPerLoad}

__all__ = [
    "GOVERNORS", "ROW_POLICIES", "SCALERS", "UNLOCKED", "ClockGovernor", "Locks", "RowPolicy", "RowView", "Scaler",
]  # fmt: skip
