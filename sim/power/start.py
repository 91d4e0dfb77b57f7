"""Puts [power] into a serving simulation: the clocks its replicas start at, and the loop that watches their row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simpy

from hardware_models.errors import ImpossibleError
from hardware_models.power import power_model
from hardware_models.server_power import ServerPower, server_power
from hardware_models.specs import GpuSpec
from policies.power import GOVERNORS, ROW_POLICIES, RowPolicy
from policies.power.governor import Objective
from sim.policy_choice import make_policy
from sim.power.classes import server_classes
from sim.power.clocks import AwakeJoules, ClockHistory, clock_share, phase_clocks
from sim.power.governor import TENTHS, GovernorLoop, StepTable
from sim.power.locks import ClockLock
from sim.power.meter import ReplicaMeter
from sim.power.pace import CostAt, Pace, ThrottledPace
from sim.power.pipeline_pace import PipelinePace
from sim.power.row import RowLoop
from sim.power.throttle import Throttle
from sim.power_section import PowerSection
from sim.scenario import Scenario
from sim.serving.deployment import Deployment
from sim.serving.record import RunLog
from sim.serving.replica import Replica
from sim.serving.shapes import shapes_of

if TYPE_CHECKING:
    from sim.power.scaler import ScalerLoop
    from sim.power.scaling import Scaling
    from sim.power.training_row import TrainingServers


@dataclass(frozen=True, slots=True)
class PowerRun:
    """What [power] leaves behind."""

    awake: AwakeJoules
    row: RowLoop | None
    limit_w: float | None
    governor: GovernorLoop | None = None
    scaler: ScalerLoop | None = None


def check_stages(scenario: Scenario) -> None:
    """Raise ImpossibleError for what [power] does not know of replicas of several stages."""
    stages, power = scenario.serving.pipeline_parallel_size, scenario.power
    if power is None or stages == 1:
        return
    watchers = {"a row's limit": power.has_row, "governor": power.governor, "scaler": power.scaler}
    for name, given in watchers.items():
        if given:
            raise ImpossibleError(
                f"[power] {name} with serving.pipeline_parallel_size = {stages}: clocks change only between steps of"
                " replicas of one stage; give fixed clocks or gpu_power_limit_w, or one stage"
            )


def pace(scenario: Scenario, deployment: Deployment) -> Pace:
    """Of a replica; raises ImpossibleError for clocks and limits that its GPUs do not have."""
    power, gpu = scenario.power, deployment.gpu
    cost_at: CostAt = lambda clock: deployment.stages_at(clock)[0]  # noqa: E731
    if power is None:
        return Pace(cost_at)
    return ThrottledPace(cost_at, phase_clocks(power, gpu), Throttle(deployment, gpu_limit_w(power, gpu)))


def pipeline_pace(scenario: Scenario, deployment: Deployment) -> PipelinePace:
    """Of a replica of several stages; raises as `pace` does."""
    power, gpu, stages_at = scenario.power, deployment.gpu, deployment.stages_at
    if power is None:
        return PipelinePace(stages_at)
    limit_w = gpu_limit_w(power, gpu)
    throttles = [Throttle(deployment, limit_w, index) for index in range(len(deployment.stages))]
    return PipelinePace(stages_at, phase_clocks(power, gpu), throttles)


def gpu_limit_w(power: PowerSection, gpu: GpuSpec) -> float:
    """Of each GPU; raises ImpossibleError for one that it cannot have."""
    limit_w = gpu.tdp_w if power.gpu_power_limit_w is None else power.gpu_power_limit_w
    idle_w = power_model(gpu).awake_w
    if not idle_w < limit_w <= gpu.tdp_w:
        raise ImpossibleError(
            f"power.gpu_power_limit_w = {limit_w:g}: {gpu.name} draws {idle_w:.0f} W without work, and {gpu.tdp_w:g} W"
            " is the most it may; give a limit in between"
        )
    return limit_w


def start_power(
    env: simpy.Environment,
    scenario: Scenario,
    deployment: Deployment,
    replicas: Sequence[Replica],
    runs: RunLog,
    working: Callable[[], bool],
    scaling: Scaling | None = None,
) -> PowerRun:
    """Begin to meter the row, where there is a limit; raises ImpossibleError for one that cannot be kept."""
    power = scenario.power
    assert power is not None
    clocks = phase_clocks(power, deployment.gpu)
    model, low = power_model(deployment.gpu), scenario.serving.low_priority_replicas
    if len(deployment.stages) > 1:  # nobody changes their clocks: `check_stages`
        return PowerRun(AwakeJoules([ClockHistory(model, clocks.lock)] * scenario.serving.replicas), None, None)
    first = len(replicas) - low
    alone = power.governor is not None or scaling is not None
    groups = [[replica] for replica in replicas] if alone else [replicas[:first], replicas[first:]]
    locks = [ClockLock(group, ClockHistory(model, clocks.lock)) for group in groups if group]
    awake = AwakeJoules([lock.history for lock, group in zip(locks, filter(None, groups), strict=True) for _ in group])
    governor = _govern(env, scenario, deployment, replicas, locks, working)
    if not power.has_row:
        scaler = None if scaling is None else scaling.start(replicas, locks, working)
        return PowerRun(awake, None, None, governor, scaler)
    policy = make_policy("power.policy", power.policy, ROW_POLICIES, {})
    server = server_power(deployment.node)
    training = _training(power, policy)
    limit_w = row_limit_w(power, scenario.cluster.nodes, server, 0.0 if training is None else training.idle_w)
    _check_clocks(power, policy, deployment, low)
    node_of = np.arange(len(replicas)) * deployment.gpus_per_replica // deployment.node.gpus
    used = np.bincount(node_of, minlength=scenario.cluster.nodes) * deployment.gpus_per_replica
    meter = ReplicaMeter(deployment, replicas, runs, awake)
    idle_gpu_w = np.asarray(model.idle_w * (deployment.node.gpus - used), float)
    high = first if power.governor is not None else 1  # locks of high priority, of which there are always replicas
    pools = {"high": locks[:high], "low": locks[high:]}
    row = RowLoop(
        env, power, policy, limit_w, meter, server, node_of, idle_gpu_w, pools,
        deployment.gpu.boost_clock_hz / 1e6, working, training,
    )  # fmt: skip
    trained = 0 if training is None else training.nodes
    row.log.classes = server_classes(node_of[:first], node_of[first:], scenario.cluster.nodes, trained)
    return PowerRun(awake, row, limit_w, governor)


def _govern(
    env: simpy.Environment,
    scenario: Scenario,
    deployment: Deployment,
    replicas: Sequence[Replica],
    locks: Sequence[ClockLock],
    working: Callable[[], bool],
) -> GovernorLoop | None:
    """Begin to set each replica's clock to its load; raises ImpossibleError for promises and clocks that are none."""
    power, serving, slo = scenario.power, scenario.serving, scenario.slo
    if power is None or power.governor is None:
        return None
    governor = make_policy("power.governor", power.governor, GOVERNORS, {})
    if slo.ttft_s is None and slo.tbt_s is None:
        raise ImpossibleError(
            "power.governor: keeps limits on TTFT or TBT, and there are none; give slo.ttft_s or tbt_s"
        )
    boost_mhz = deployment.gpu.boost_clock_hz / 1e6
    clocks_mhz = governor_clocks_mhz(power, deployment.gpu)
    tables = []
    for shape in shapes_of(deployment, len(replicas)):
        own = shape.deployment
        tables += [StepTable(pace(scenario, own), boost_mhz, own.limits.window)] * shape.replicas
    return GovernorLoop(
        env, governor, tables, clocks_mhz, boost_mhz, Objective(slo.ttft_s, slo.tbt_s, slo.percentile), replicas, locks,
        serving.max_num_batched_tokens, power.governor_period_s, power.governor_delay_s, power.governor_window_s,
        working,
    )  # fmt: skip


def governor_clocks_mhz(power: PowerSection, gpu: GpuSpec) -> list[float]:
    """That it chooses from, rising; raises ImpossibleError for one above boost."""
    boost_mhz = gpu.boost_clock_hz / 1e6
    clocks_mhz = sorted(power.governor_clocks_mhz or [boost_mhz * tenth / 10 for tenth in TENTHS])
    for mhz in clocks_mhz:
        clock_share("power.governor_clocks_mhz", mhz, gpu)
    return clocks_mhz


def _training(power: PowerSection, policy: RowPolicy) -> TrainingServers | None:
    """That shares the row; raises ImpossibleError for a policy that slows one where there is none."""
    if power.training is None:
        if policy.needs_training:
            raise ImpossibleError(
                f"power.policy '{power.policy.name}' slows a training first, and the row has none; give"
                " power.training.scenario, or another policy"
            )
        return None
    from sim.power.training_row import training_servers  # loads all of training, which few rows need

    return training_servers(power, power.training)


def row_limit_w(power: PowerSection, nodes: int, server: ServerPower, trained_idle_w: float = 0.0) -> float:
    """Of the breaker; raises ImpossibleError where servers without work draw as much, a training's among them."""
    limit_w = power.row_limit_w if power.row_limit_w is not None else (power.provisioned_nodes or 0) * server.rated_w
    idle_w = nodes * server.idle_w + trained_idle_w
    if limit_w <= idle_w:
        key = "row_limit_w" if power.row_limit_w is not None else "provisioned_nodes"
        raise ImpossibleError(
            f"power.{key}: a limit of {limit_w:,.0f} W is not above the {idle_w:,.0f} W that {nodes} idle servers"
            f"{' and those of a training' if trained_idle_w else ''} draw; raise it, or give fewer cluster.nodes"
        )
    return limit_w


def _check_clocks(power: PowerSection, policy: RowPolicy, deployment: Deployment, low: int) -> None:
    for mhz in policy.clocks_mhz:
        clock_share(f"power.policy '{power.policy.name}' clock", mhz, deployment.gpu)
    clock_share("power.brake_clock_mhz", power.brake_clock_mhz, deployment.gpu)
    if policy.needs_low_priority and not low:
        raise ImpossibleError(
            f"power.policy '{power.policy.name}' caps servers of low priority first, and there are none; give"
            " serving.low_priority_replicas, or a policy that caps all"
        )
    if deployment.node.gpus % deployment.gpus_per_replica:
        raise ImpossibleError(
            f"[power] with {deployment.gpus_per_replica} GPUs a replica: a row is metered by servers of"
            f" {deployment.node.gpus}; give a serving.tensor_parallel_size that divides it"
        )
