"""Puts [power] into a serving simulation: the clocks its replicas start at, and the loop that watches their row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import simpy

from hardware_models.errors import ImpossibleError
from hardware_models.power import power_model
from hardware_models.server_power import ServerPower, server_power
from policies.power import GOVERNORS, ROW_POLICIES, RowPolicy
from policies.power.governor import Objective
from sim.policy_choice import make_policy
from sim.power.clocks import AwakeJoules, ClockHistory, clock_share, phase_clocks
from sim.power.governor import TENTHS, GovernorLoop, StepTable
from sim.power.locks import ClockLock
from sim.power.meter import ReplicaMeter
from sim.power.pace import CostAt, Pace, ThrottledPace
from sim.power.row import RowLoop
from sim.power.throttle import Throttle
from sim.power_section import PowerSection
from sim.scenario import Scenario
from sim.serving.deployment import Deployment
from sim.serving.record import RunLog
from sim.serving.replica import Replica


@dataclass(frozen=True, slots=True)
class PowerRun:
    """What [power] leaves behind."""

    awake: AwakeJoules
    row: RowLoop | None
    limit_w: float | None
    governor: GovernorLoop | None = None


def check_stages(scenario: Scenario) -> None:
    """Raise ImpossibleError for what [power] does not know."""
    stages = scenario.serving.pipeline_parallel_size
    if scenario.power is not None and stages > 1:
        raise ImpossibleError(
            f"[power] with serving.pipeline_parallel_size = {stages}: clocks and meters know replicas of one stage;"
            " leave the section out, or give 1"
        )


def pace(scenario: Scenario, deployment: Deployment) -> Pace:
    """Of a replica; raises ImpossibleError for clocks and limits that its GPUs do not have."""
    power, gpu = scenario.power, deployment.gpu
    cost_at: CostAt = lambda clock: deployment.stages_at(clock)[0]  # noqa: E731
    if power is None:
        return Pace(cost_at)
    limit_w = gpu.tdp_w if power.gpu_power_limit_w is None else power.gpu_power_limit_w
    idle_w = power_model(gpu).awake_w
    if not idle_w < limit_w <= gpu.tdp_w:
        raise ImpossibleError(
            f"power.gpu_power_limit_w = {limit_w:g}: {gpu.name} draws {idle_w:.0f} W without work, and {gpu.tdp_w:g} W"
            " is the most it may; give a limit in between"
        )
    return ThrottledPace(cost_at, phase_clocks(power, gpu), Throttle(deployment, limit_w))


def start_power(
    env: simpy.Environment,
    scenario: Scenario,
    deployment: Deployment,
    replicas: Sequence[Replica],
    runs: RunLog,
    working: Callable[[], bool],
) -> PowerRun:
    """Begin to meter the row, where there is a limit; raises ImpossibleError for one that cannot be kept."""
    power = scenario.power
    assert power is not None
    clocks = phase_clocks(power, deployment.gpu)
    model, low = power_model(deployment.gpu), scenario.serving.low_priority_replicas
    first = len(replicas) - low
    groups = [[replica] for replica in replicas] if power.governor is not None else [replicas[:first], replicas[first:]]
    locks = [ClockLock(group, ClockHistory(model, clocks.lock)) for group in groups if group]
    awake = AwakeJoules([lock.history for lock, group in zip(locks, filter(None, groups), strict=True) for _ in group])
    governor = _govern(env, scenario, deployment, replicas, locks, working)
    if not power.has_row:
        return PowerRun(awake, None, None, governor)
    policy = make_policy("power.policy", power.policy, ROW_POLICIES, {})
    server = server_power(deployment.node)
    limit_w = row_limit_w(power, scenario.cluster.nodes, server)
    _check_clocks(power, policy, deployment, low)
    node_of = np.arange(len(replicas)) * deployment.gpus_per_replica // deployment.node.gpus
    used = np.bincount(node_of, minlength=scenario.cluster.nodes) * deployment.gpus_per_replica
    meter = ReplicaMeter(deployment, replicas, runs, awake)
    idle_gpu_w = np.asarray(model.idle_w * (deployment.node.gpus - used), float)
    high = first if power.governor is not None else 1  # locks of high priority, of which there are always replicas
    pools = {"high": locks[:high], "low": locks[high:]}
    row = RowLoop(
        env, power, policy, limit_w, meter, server, node_of, idle_gpu_w, pools,
        deployment.gpu.boost_clock_hz / 1e6, working,
    )  # fmt: skip
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
    clocks_mhz = sorted(power.governor_clocks_mhz or [boost_mhz * tenth / 10 for tenth in TENTHS])
    for mhz in clocks_mhz:
        clock_share("power.governor_clocks_mhz", mhz, deployment.gpu)
    table = StepTable(pace(scenario, deployment), boost_mhz, deployment.limits.window)
    return GovernorLoop(
        env, governor, table, clocks_mhz, boost_mhz, Objective(slo.ttft_s, slo.tbt_s, slo.percentile), replicas, locks,
        serving.max_num_batched_tokens, power.governor_period_s, power.governor_delay_s, power.governor_window_s,
        working,
    )  # fmt: skip


def row_limit_w(power: PowerSection, nodes: int, server: ServerPower) -> float:
    """Of the breaker; raises ImpossibleError where servers without work draw as much."""
    limit_w = power.row_limit_w if power.row_limit_w is not None else (power.provisioned_nodes or 0) * server.rated_w
    idle_w = nodes * server.idle_w
    if limit_w <= idle_w:
        key = "row_limit_w" if power.row_limit_w is not None else "provisioned_nodes"
        raise ImpossibleError(
            f"power.{key}: a limit of {limit_w:,.0f} W is not above the {idle_w:,.0f} W that {nodes} idle servers"
            " draw; raise it, or give fewer cluster.nodes"
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
