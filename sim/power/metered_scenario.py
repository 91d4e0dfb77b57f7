"""Scenarios of studies alone: work that somebody metered at one power limit, asked for at another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, ValidationError

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.power import power_model
from sim.metrics import Metric
from sim.power.clocks import clock_share
from sim.power.metered_work import Metered, MeteredWork
from sim.scenario_errors import sentence
from sim.section import Section

WORK = "work"  # the section that tells such a scenario


class WorkSection(Section):
    """[work]: what was metered, and what is asked."""

    gpu: str = Field(description="of the catalog")
    seconds: float = Field(gt=0, description="metered, at metered_limit_w and metered_clock_mhz")
    watts: float = Field(gt=0, description="the mean of one GPU over them")
    metered_limit_w: float | None = Field(default=None, gt=0, description="power limit; absent: the data sheet's")
    metered_clock_mhz: float | None = Field(default=None, gt=0, description="locked core clock; absent: boost")
    power_limit_w: float | None = Field(default=None, gt=0, description="asked for; absent: metered_limit_w")
    clock_mhz: float | None = Field(default=None, gt=0, description="asked for; absent: boost")


class MeteredScenario(Section):
    """What one point of a study of metered work asks."""

    name: str = Field(default="metered work", min_length=1, max_length=200)
    work: WorkSection


def parse_metered(tables: Mapping[str, Any], origin: str) -> MeteredScenario:
    """Validate tables, which `origin` names; raises FleetcastError."""
    try:
        return MeteredScenario.model_validate(tables)
    except ValidationError as error:
        raise FleetcastError(f"{origin}: {sentence(error, MeteredScenario)}") from None


def asked(scenario: MeteredScenario) -> Metered:
    """The same work at the limit and the clock asked for; raises FleetcastError."""
    work = scenario.work
    gpu = catalog.gpu(work.gpu)
    own_w = _limit(work.metered_limit_w, gpu.tdp_w)
    metered_clock = clock_share("work.metered_clock_mhz", work.metered_clock_mhz, gpu)
    metered = MeteredWork(power_model(gpu), Metered(work.seconds, work.watts), own_w, metered_clock)
    return metered.at(_limit(work.power_limit_w, own_w), clock_share("work.clock_mhz", work.clock_mhz, gpu))


def _limit(watts: float | None, otherwise_w: float) -> float:
    return otherwise_w if watts is None else watts


METERED_FIGURES: dict[str, tuple[Metric, Callable[[Metered], float]]] = {
    "work_s": (Metric("work_s", "time of the work", "s", "s", 1.0, False), lambda found: found.seconds),
    "work_w": (Metric("work_w", "watts of a GPU", "W", "W", 1.0, None), lambda found: found.watts),
    "work_j": (
        Metric("work_j", "energy of a GPU", "J", "J", 1.0, False),
        lambda found: found.seconds * found.watts,
    ),
}
