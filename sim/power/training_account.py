"""What a training in a row did: its steps against those without a limit, its clocks, and each joule of it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hardware_models.energy_account import HOUR_S, J_PER_KWH, embodied_kgco2e
from hardware_models.server_power import server_power
from sim.energy_section import EnergySection
from sim.power.ledger import WINDOW_S
from sim.power.start import PowerRun
from sim.power.windows import Windows
from sim.scenario import Scenario

if TYPE_CHECKING:
    from sim.power.training_row import TrainingServers


def add_training(summary: dict[str, Any], scenario: Scenario, power: PowerRun | None, begin_s: float) -> None:
    """Put `training` into a summary's "power", over the row's readings, and into its "energy", over the time that
    this counts; nothing where no training shares the row.
    """
    if power is None or power.row is None or power.row.training is None or not power.row.log.t_s:
        return
    training, section = power.row.training, EnergySection() if scenario.energy is None else scenario.energy
    summary["power"]["training"] = training_entry(training, power.row.log.t_s[-1])
    if summary["energy"] is not None:
        summary["energy"]["training"] = training_energy(training, section, begin_s, summary["duration_s"])


def training_entry(training: TrainingServers, end_s: float) -> dict[str, Any]:
    """Entry "training" of a row's, from 0 to its last reading."""
    steps = training.job.steps
    done, own = float(training.job.done(np.array([end_s]))[0]), steps.own
    free = end_s / own.step_s
    lost = max(0.0, 1.0 - done / free)
    spans = training.job.spans(0.0, end_s)
    return {
        "name": steps.scenario.name,
        "node": steps.node.name,
        "nodes": training.nodes,
        "steps": done,
        "steps_without_limit": free,
        "tokens_per_s": done * steps.tokens / end_s,
        "tokens_per_s_without_limit": free * steps.tokens / end_s,
        "tokens_per_s_lost": lost * free * steps.tokens / end_s,
        "lost_fraction": lost,
        "slowed_s": sum(until - since for since, until, step in spans if step.clock < own.clock),
        "own_clock_mhz": own.clock * training.boost_mhz,
        "mean_clock_mhz": training.lock.history.mean_clock(0.0, end_s) * training.boost_mhz,
        "lowest_clock_mhz": min(step.clock for _, _, step in spans) * training.boost_mhz,
    }


def training_energy(
    training: TrainingServers, section: EnergySection, begin_s: float, duration_s: float
) -> dict[str, Any]:
    """Entry "training" of an account of energy: its servers' joules, beside those of the servers that serve.

    What GPUs did in a step that a change of clocks cut is shared out as in a whole one.
    """
    job, steps, edges_s = training.job, training.job.steps, Windows.of(begin_s, duration_s, WINDOW_S).edges_s
    counts = np.array([one.count for one in steps.own.servers], float)
    bill = section.site_of().bill(edges_s, np.diff(job.joules(edges_s)[..., 0] @ counts) / np.diff(edges_s))
    parts_j = dict.fromkeys(steps.own.parts, 0.0)
    for since_s, until_s, step in job.spans(begin_s, begin_s + duration_s):
        gpu_j = float(np.diff(job.joules(np.array([since_s, until_s]))[..., 1] @ counts)[0])
        for name, share in step.parts.items():
            parts_j[name] += share * gpu_j
    gpu_j = sum(parts_j.values())
    embodied, hours = section.embodied_of(), training.nodes * duration_s / HOUR_S
    made = None if embodied is None else embodied_kgco2e(embodied, hours, steps.node.gpus)
    begun, ended = job.done(np.array([begin_s, begin_s + duration_s]))
    return {
        "parts_j": parts_j | {"servers": bill.wall_j - gpu_j, "site": bill.site_j - bill.wall_j},
        "gpu_kwh": gpu_j / J_PER_KWH,
        "wall_kwh": bill.wall_j / J_PER_KWH,
        "site_kwh": bill.site_kwh,
        "site_j_per_token": bill.site_j / float((ended - begun) * steps.tokens),
        "kgco2e": bill.kgco2e + (made or 0.0),
        "kgco2e_of_grid": bill.kgco2e,
        "kgco2e_embodied": made,
        "usd": bill.usd,
        "grades": {"servers": server_power(steps.node).grade},
    }
