"""The account of a serving run's energy: every joule of its site once, by what it was spent on, and what it came to.

    site = GPUs (prompts + decoding + waiting + unused) + rest of the servers + overhead of the site

A step that computes prompts and decodes is shared by time: attention of prompts and of decodes is each one's own, all
else goes by the tokens that each brings. Servers' watts follow from their GPUs' mean watts in windows of some seconds,
within which their fans settle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.energy_account import HOUR_S, J_PER_KWH, Bill, embodied_kgco2e
from hardware_models.power import power_model
from hardware_models.server_power import server_power
from sim.energy_section import CPU_SHARE, EnergySection
from sim.power.clocks import AwakeJoules
from sim.power.windows import Windows
from sim.scenario import Scenario
from sim.serving.attribution import Attribution
from sim.serving.deployment import Deployment
from sim.serving.energy import run_watts
from sim.serving.shapes import first_gpus, gpus_used, ranks_of, replicas_of, shapes_of

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
WINDOW_S = 10.0  # in which fans settle
MOST_CELLS = 2_000_000  # servers times windows; beyond, windows are longer
WH_J = HOUR_S


@dataclass(frozen=True, slots=True)
class ServedEnergy:
    """Joules of a serving run."""

    prompt_j: float
    decode_j: float
    waiting_j: float  # of replicas' GPUs between steps
    unused_j: float  # of GPUs of no replica
    bill: Bill

    @property
    def gpu_j(self) -> float:
        """Of all GPUs."""
        return self.prompt_j + self.decode_j + self.waiting_j + self.unused_j

    @property
    def parts_j(self) -> dict[str, float]:
        """Each joule of the site once."""
        return {
            "prompt": self.prompt_j,
            "decode": self.decode_j,
            "waiting": self.waiting_j,
            "unused": self.unused_j,
            "servers": self.bill.wall_j - self.gpu_j,
            "site": self.bill.site_j - self.bill.wall_j,
        }


def energy_account(
    scenario: Scenario,
    deployment: Deployment,
    runs: dict[str, Floats],
    attributions: list[Attribution],
    begin_s: float,
    totals: dict[str, Any],
    awake: AwakeJoules | None = None,
) -> dict[str, Any]:
    """Entry "energy" of a summary, None where nothing finished; totals: the summary's duration, requests and tokens.

    awake: of GPUs whose clocks are not at boost.
    """
    duration_s = totals["duration_s"]
    if not duration_s > 0.0:
        return {"energy": None}
    section = EnergySection() if scenario.energy is None else scenario.energy
    found = _served(scenario, section, deployment, runs, attributions, begin_s, duration_s, awake)
    bill, completed, output = found.bill, totals["completed"], totals["output_tokens"]
    embodied = section.embodied_of()
    hours = scenario.cluster.nodes * duration_s / HOUR_S
    made = None if embodied is None else embodied_kgco2e(embodied, hours, deployment.node.gpus)
    kgco2e = bill.kgco2e + (made or 0.0)
    return {
        "energy": {
            "parts_j": found.parts_j,
            "gpu_kwh": found.gpu_j / J_PER_KWH,
            "wall_kwh": bill.wall_j / J_PER_KWH,
            "site_kwh": bill.site_kwh,
            "waiting_fraction": found.waiting_j / (found.gpu_j - found.unused_j),
            "prompt_j_per_token": _over(found.prompt_j, totals["prompt_tokens"]),
            "decode_j_per_token": _over(found.decode_j, output),
            "site_j_per_output_token": _over(bill.site_j, output),
            "wh_per_request": _over(bill.site_j / WH_J, completed),
            "kgco2e": kgco2e,
            "kgco2e_of_grid": bill.kgco2e,
            "kgco2e_embodied": made,
            "gco2e_per_request": _over(kgco2e * 1e3, completed),
            "usd": bill.usd,
            "usd_per_million_output_tokens": _over(bill.usd * 1e6, output),
        }
        | section.terms(bill)
        | {"grades": {"servers": server_power(deployment.node).grade} | section.grades()}
    }


def prompt_share(runs: dict[str, Floats], attribution: Attribution) -> Floats:
    """Of each run's joules, what its prompts bear: (runs,)."""
    prompts, decodes = attribution.attention_s
    rows = runs["prefill_tokens"] + runs["decode_seqs"] + runs["padding_rows"]
    common = attribution.busy_s - prompts - decodes
    own = prompts + common * runs["prefill_tokens"] / np.where(rows > 0.0, rows, 1.0)
    busy = attribution.busy_s
    return np.where(busy > 0.0, own / np.where(busy > 0.0, busy, 1.0), 0.0)


def _over(amount: float, count: float) -> float | None:
    return amount / count if count else None


def _served(
    scenario: Scenario,
    section: EnergySection,
    deployment: Deployment,
    runs: dict[str, Floats],
    attributions: list[Attribution],
    begin_s: float,
    duration_s: float,
    awake: AwakeJoules | None,
) -> ServedEnergy:
    """Phases from sums over runs; watts of servers from the same joules, window by window."""
    replicas = replicas_of(deployment, scenario.serving.replicas)
    ranks = ranks_of(deployment, replicas) // len(attributions)
    used = gpus_used(deployment, replicas)
    servers = -(-used // deployment.node.gpus)
    width_s = max(WINDOW_S, duration_s * max(servers, replicas) / MOST_CELLS)
    windows = Windows.of(begin_s, duration_s, width_s)
    replica, start_s = runs["replica"].astype(np.int64), runs["start_s"]
    waiting = awake_joules(deployment, windows, replicas, awake)
    gpu_j = np.zeros((servers, windows.count))
    phases = np.zeros(2)
    waiting_j = 0.0
    for index, attribution in enumerate(attributions):
        end_s = start_s + attribution.busy_s
        active = run_watts(runs, deployment, attribution, index) * attribution.busy_s
        instead = power_model(deployment.gpu).awake_w * attribution.busy_s
        if awake is not None:
            instead = awake.until(replica, end_s) - awake.until(replica, start_s)
        share, of_run = prompt_share(runs, attribution), ranks[replica]
        phases += np.array([np.sum(of_run * share * active), np.sum(of_run * (1.0 - share) * active)])
        waiting_j += float(np.dot(ranks, waiting.sum(axis=1)) - np.dot(of_run, instead))
        per_gpu = waiting + windows.spread(replica, replicas, start_s, end_s, active - instead)
        of_replica, server, gpus = _places(deployment, replicas, index, ranks)
        np.add.at(gpu_j, server, gpus[:, None] * per_gpu[of_replica])
    unused_w = power_model(deployment.gpu).idle_w
    left = servers * deployment.node.gpus - used  # all on the last server
    gpu_j[-1] += left * unused_w * np.diff(windows.edges_s)
    unused_j = unused_w * (deployment.gpus_total - used) * duration_s
    if awake is not None and scenario.power is not None and scenario.power.scaler is not None:
        free_s = _free_gpu_s(deployment, windows, replicas, awake)
        gpu_j += unused_w * free_s
        unused_j += unused_w * float(free_s.sum())
    cpu_share = CPU_SHARE if scenario.power is None else scenario.power.cpu_share
    wall_w = _wall_w(deployment, gpu_j / np.diff(windows.edges_s), scenario.cluster.nodes, cpu_share)
    bill = section.site_of().bill(windows.edges_s, wall_w)
    waiting_j = 0.0 if abs(waiting_j) < 1e-12 * float(phases.sum()) else waiting_j  # less is rounding
    return ServedEnergy(float(phases[0]), float(phases[1]), waiting_j, unused_j, bill)


def awake_joules(deployment: Deployment, windows: Windows, replicas: int, awake: AwakeJoules | None) -> Floats:
    """What a GPU of each replica would draw without work in each window: (replicas, windows)."""
    if awake is None:
        watts = np.full((replicas, 1), power_model(deployment.gpu).awake_w)
        return np.asarray(watts * np.diff(windows.edges_s))
    every = np.repeat(np.arange(replicas), windows.count + 1)
    so_far = awake.until(every, np.tile(windows.edges_s, replicas))
    return np.asarray(np.diff(so_far.reshape(replicas, windows.count + 1), axis=1))


def _free_gpu_s(deployment: Deployment, windows: Windows, replicas: int, awake: AwakeJoules) -> Floats:
    """GPU-seconds of each server's replicas in which none of them was there: (servers, windows)."""
    ranks = ranks_of(deployment, replicas)
    of_replica, server, gpus = _places(deployment, replicas, 0, ranks)
    own = of_replica < shapes_of(deployment, replicas)[0].replicas  # who have all GPUs once
    free_s = np.bincount(server[own], gpus[own])[:, None] * np.diff(windows.edges_s)
    np.subtract.at(free_s, server, gpus[:, None] * awake.held_s(windows.edges_s)[of_replica])
    return np.asarray(free_s)


def _places(deployment: Deployment, replicas: int, stage: int, ranks: Counts) -> tuple[Counts, Counts, Counts]:
    """Replica, server and how many GPUs of the replica's stage it holds; replicas fill servers one after another."""
    first = first_gpus(deployment, replicas) + stage * ranks
    within = np.arange(ranks.sum()) - np.repeat(np.cumsum(ranks) - ranks, ranks)
    server = (np.repeat(first, ranks) + within) // deployment.node.gpus
    pairs = np.stack([np.repeat(np.arange(replicas), ranks), server])
    found, gpus = np.unique(pairs, axis=1, return_counts=True)
    return found[0], found[1], gpus


def _wall_w(deployment: Deployment, gpu_w: Floats, nodes: int, cpu_share: float) -> Floats:
    """Of all servers in each window; gpu_w: of those that serve, (servers, windows)."""
    model = server_power(deployment.node)
    idle_w = model.watts(deployment.node.gpus * power_model(deployment.gpu).idle_w)
    return np.asarray(model.watts(gpu_w, cpu_share).sum(axis=0) + (nodes - len(gpu_w)) * float(idle_w))
