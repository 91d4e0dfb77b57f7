"""Scenarios of studies alone: an account of carbon from the hours, watts and kilowatt-hours that a paper states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from hardware_models.energy_account import HOUR_S, J_PER_KWH, Bill, embodied_kgco2e
from hardware_models.errors import FleetcastError
from sim.energy_section import EnergySection
from sim.metrics import Metric
from sim.scenario_errors import sentence
from sim.section import Section

ACCOUNT = "account"  # the section that tells such a scenario


class AccountSection(Section):
    """[account]: what was counted."""

    device_hours: float = Field(ge=0, description="for which devices were held")
    device_w: float = Field(ge=0, description="that a device is charged with in them")
    other_kwh: float = Field(default=0.0, ge=0, description="of all else, evenly over the same time")
    devices: int = Field(default=1, ge=1, description="held at once")
    devices_per_server: int = Field(default=1, ge=1, description="of which a server has so many")


class StatedAccount(Section):
    """What one point of a study of accounts asks."""

    name: str = Field(default="account", min_length=1, max_length=200)
    account: AccountSection
    energy: EnergySection = EnergySection()


@dataclass(frozen=True, slots=True)
class Accounted:
    """What it comes to."""

    bill: Bill
    made_kgco2e: float  # for making the servers; 0 where that is not counted


def parse_account(tables: Mapping[str, Any], origin: str) -> StatedAccount:
    """Validate tables, which `origin` names; raises FleetcastError."""
    try:
        return StatedAccount.model_validate(tables)
    except ValidationError as error:
        raise FleetcastError(f"{origin}: {sentence(error, StatedAccount)}") from None


def accounted(scenario: StatedAccount) -> Accounted:
    """Watts that are the same all along; raises FleetcastError for names that no catalog has."""
    stated, section = scenario.account, scenario.energy
    if not stated.device_hours > 0.0:
        raise FleetcastError("account.device_hours = 0: an account needs time to spend energy in; give more")
    seconds = stated.device_hours / stated.devices * HOUR_S
    watts = stated.device_w * stated.devices + stated.other_kwh * J_PER_KWH / seconds
    embodied, server_hours = section.embodied_of(), stated.device_hours / stated.devices_per_server
    made = 0.0 if embodied is None else embodied_kgco2e(embodied, server_hours, stated.devices_per_server)
    return Accounted(section.site_of().bill((0.0, seconds), (watts,)), made)


STATED_FIGURES: dict[str, tuple[Metric, Callable[[Accounted], float]]] = {
    metric.key: (metric, value)
    for metric, value in (
        (Metric("account_kwh", "energy", "kWh", "MWh", 1e-3, False), lambda found: found.bill.site_kwh),
        (
            Metric("account_kgco2e", "carbon", "kgCO2e", "tCO2e", 1e-3, False),
            lambda found: found.bill.kgco2e + found.made_kgco2e,
        ),
        (
            Metric("account_made_kgco2e", "carbon of making the servers", "kgCO2e", "tCO2e", 1e-3, False),
            lambda found: found.made_kgco2e,
        ),
    )
}
