"""Watts of a training's servers at the wall over a step: of each kind of server, by the stages whose GPUs it holds.

Ranks fill servers one after another, tensor-parallel neighbours first, stages last (Megatron-LM's order). Fans turn at
the speed that a server's mean heat asks for, since they take some ten seconds to follow it; all else follows at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models.power import power_model
from hardware_models.server_power import ServerPower, server_power
from sim.power.series import PowerSeries
from sim.power_section import PowerSection
from sim.training.deployment import TrainingDeployment

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ServerKind:
    """Servers that hold as many GPUs of the same stages."""

    first: int  # of them, by number
    count: int
    gpus: tuple[tuple[int, int], ...]  # stage, and how many of its GPUs

    def gpu_watts(self, stages: Sequence[PowerSeries], unused_w: float) -> PowerSeries:
        """Of all GPUs of one server; stages: of one GPU each; unused_w: of its GPUs that train nothing."""
        parts = [PowerSeries.of(stages[stage].t_s, count * stages[stage].watts) for stage, count in self.gpus]
        whole = PowerSeries.total(parts)
        return PowerSeries.of(whole.t_s, whole.watts + unused_w) if unused_w else whole


def server_kinds(deployment: TrainingDeployment) -> list[ServerKind]:
    """Of all servers that train, the first of each kind in order."""
    layout, a_server = deployment.layout, deployment.node.gpus
    a_stage = layout.tp * layout.cp * layout.dp
    found: Counter[tuple[tuple[int, int], ...]] = Counter()
    first: dict[tuple[tuple[int, int], ...], int] = {}
    for number in range(-(-layout.gpus // a_server)):
        ranks = range(number * a_server, min((number + 1) * a_server, layout.gpus))
        stages = range(ranks.start // a_stage, (ranks.stop - 1) // a_stage + 1)
        held = tuple(
            (stage, min(ranks.stop, (stage + 1) * a_stage) - max(ranks.start, stage * a_stage)) for stage in stages
        )
        found[held] += 1
        first.setdefault(held, number)
    return [ServerKind(first[held], count, held) for held, count in found.items()]


@dataclass(frozen=True, slots=True)
class WallPower:
    """Over a step."""

    servers: list[tuple[ServerKind, PowerSeries]]  # one of each kind
    cluster: PowerSeries


def wall_power(deployment: TrainingDeployment, stages: Sequence[PowerSeries]) -> WallPower:
    """Of the whole cluster, servers that train nothing included; stages: of one GPU of each."""
    node, power = deployment.node, deployment.scenario.power
    model, idle_w = server_power(node), power_model(deployment.gpu).idle_w
    cpu_share: float = PowerSection.model_fields["cpu_share"].default if power is None else power.cpu_share
    servers, all_of_them = [], []
    for kind in server_kinds(deployment):
        unused_w = (node.gpus - sum(count for _, count in kind.gpus)) * idle_w
        gpus = kind.gpu_watts(stages, unused_w)
        one = PowerSeries.of(gpus.t_s, server_watts(model, gpus.watts, gpus.mean_w, cpu_share))
        servers.append((kind, one))
        all_of_them.append(PowerSeries.of(one.t_s, kind.count * one.watts))
    cluster = PowerSeries.total(all_of_them)
    idle = deployment.cluster_gpus // node.gpus - sum(kind.count for kind, _ in servers)
    idle_w = idle * float(model.watts(node.gpus * idle_w))
    return WallPower(servers, PowerSeries.of(cluster.t_s, cluster.watts + idle_w))


def server_watts(model: ServerPower, gpu_w: Floats, mean_gpu_w: float, cpu_share: float) -> Floats:
    """At the wall while all GPUs draw `gpu_w`, and fans turn as they do at the mean."""
    mean = model.breakdown(mean_gpu_w, cpu_share)
    fans_w = float(mean["fans"])
    others_w = sum(float(mean[part]) for part in ("cpus", "memory", "drives", "board"))
    given_w = gpu_w + others_w + fans_w
    return np.asarray(given_w + model.supply.losses(given_w))
