"""The account of a training's energy: every joule of its site once, of a step and of the whole training."""

from __future__ import annotations

from typing import Any

from hardware_models.energy_account import HOUR_S, J_PER_KWH, embodied_kgco2e
from hardware_models.power import power_model
from hardware_models.server_power import server_power
from sim.energy_section import EnergySection
from sim.training.deployment import TrainingDeployment
from sim.training_scenario import TrainingScenario

DAY_EDGES_S = (0.0, 86_400.0)


def step_account(
    deployment: TrainingDeployment, spent_j: dict[str, float], wall_w: float, step_s: float, tokens: float
) -> dict[str, Any]:
    """Entry "energy" of a step's summary; spent_j: of the plan's GPUs, by what they did; wall_w: the cluster's mean.

    A step stands for all of a long training, so prices and carbon are means over the day.
    """
    section = _section(deployment.scenario)
    unused_w = power_model(deployment.gpu).idle_w * (deployment.cluster_gpus - deployment.layout.gpus)
    gpus_j = spent_j | {"unused": unused_w * step_s}
    site = section.site_of()
    bill = site.bill(DAY_EDGES_S, [wall_w])
    gpu_j, wall_j, site_j = sum(gpus_j.values()), wall_w * step_s, wall_w * step_s * site.pue
    a_token = step_s / DAY_EDGES_S[1] / tokens  # over a day
    made = _embodied(section, deployment.scenario, DAY_EDGES_S[1], deployment.node.gpus)
    return {
        "parts_j": gpus_j | {"servers": wall_j - gpu_j, "site": site_j - wall_j},
        "gpu_j": gpu_j,
        "wall_j": wall_j,
        "site_j": site_j,
        "site_w": wall_w * site.pue,
        "wall_w": wall_w,
        "site_j_per_token": site_j / tokens,
        "kgco2e_per_billion_tokens": (bill.kgco2e + (made or 0.0)) * a_token * 1e9,
        "usd_per_billion_tokens": bill.usd * a_token * 1e9,
        **section.terms(bill),
        "grades": {"servers": server_power(deployment.node).grade} | section.grades(),
    }


def whole_account(scenario: TrainingScenario, summary: dict[str, Any], total_s: float) -> dict[str, Any]:
    """Of a whole training at the watts of a step, from the hour at which it begins."""
    section, step = _section(scenario), summary["energy"]
    bill = section.site_of().bill((0.0, total_s), [step["wall_w"]])
    gpus = summary["cluster_gpus"] / scenario.cluster.nodes
    made = _embodied(section, scenario, total_s, gpus)
    return {
        "gpu_kwh": step["gpu_j"] / summary["step_s"] * total_s / J_PER_KWH,
        "wall_kwh": bill.wall_j / J_PER_KWH,
        "site_kwh": bill.site_kwh,
        "kgco2e": bill.kgco2e + (made or 0.0),
        "kgco2e_of_grid": bill.kgco2e,
        "kgco2e_embodied": made,
        "usd": bill.usd,
        **section.terms(bill),
    }


def _section(scenario: TrainingScenario) -> EnergySection:
    return EnergySection() if scenario.energy is None else scenario.energy


def _embodied(section: EnergySection, scenario: TrainingScenario, seconds: float, gpus: float) -> float | None:
    spec = section.embodied_of()
    return None if spec is None else embodied_kgco2e(spec, scenario.cluster.nodes * seconds / HOUR_S, gpus)
