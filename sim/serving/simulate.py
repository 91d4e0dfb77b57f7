"""Runs a serving scenario: builds the engines, lets the clock go, hands back the logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import simpy

from hardware_models.errors import DoesNotFitError
from policies.power import Scaler
from policies.serving import ROUTERS, SCHEDULERS, BatchScheduler, Sequence
from sim.policy_choice import make_policy
from sim.power.scaling import Scaling, make_scaler, with_shapes
from sim.power.start import PowerRun, check_stages, pace, pipeline_pace, start_power
from sim.scenario import Scenario
from sim.serving.arrivals import ArrivalProcess, assign
from sim.serving.deployment import Deployment, deploy
from sim.serving.inbox import Inbox, RequestColumns
from sim.serving.kv_setup import add_cache, page_names
from sim.serving.pipeline import PipelineReplica
from sim.serving.placement import Placement
from sim.serving.record import RequestLog, RunLog
from sim.serving.replica import Replica
from sim.serving.shapes import replicas_of, shapes_of
from workloads.randomness import stream
from workloads.request import RequestTable


@dataclass(frozen=True, slots=True)
class ServingRun:
    """What is left when the clock has stopped."""

    deployment: Deployment
    requests: RequestLog
    runs: RunLog
    replicas: list[Replica | PipelineReplica]
    power: PowerRun | None = None


def simulate_serving(
    scenario: Scenario,
    requests: RequestTable,
    exact: bool = False,
    watch: Callable[[RequestLog], None] | None = None,
    log: RequestLog | None = None,
) -> ServingRun:
    """Serve `requests` on the scenario's engines until the last one is done.

    exact: one event an iteration instead of one a run of equal iterations; the answers agree to 1e-9. log: where they
    are noted, in place of a plain log. Raises FleetcastError for an impossible scenario, DoesNotFitError where the
    model, or the memory set aside for one sequence, is larger than the hardware holds.
    """
    scaler = make_scaler(scenario)
    deployment, scheduler = _deploy(scenario, scaler, requests)
    router = make_policy("serving.router", scenario.serving.router, ROUTERS, {})
    check_stages(scenario)
    names = page_names(scenario, scheduler, requests)
    env = simpy.Environment()
    request_log, run_log = RequestLog(requests) if log is None else log, RunLog()
    if watch is not None:
        watch(request_log)
    columns = RequestColumns(requests)
    random = stream(scenario.seed, "router")
    scaling = None if scaler is None else Scaling(env, scenario, deployment, scaler, requests, router)
    count = replicas_of(deployment, scenario.serving.replicas)
    low = scenario.serving.low_priority_replicas
    placement = Placement(requests, router, count, low) if scaling is None else scaling.placement
    asks = scaling is not None or (router.asks_replicas and count > 1)
    assigned = [[] for _ in range(count)] if asks else assign(requests, placement, count, random)
    arrivals = ArrivalProcess(env, requests, placement, random)
    replicas: list[Replica | PipelineReplica] = []
    owners = [shape.deployment for shape in shapes_of(deployment, count) for _ in range(shape.replicas)]
    for number, (own, known) in enumerate(zip(owners, assigned, strict=True)):
        inbox = Inbox(columns, known)
        common = (own.limits, inbox, run_log, request_log, exact)
        if len(own.stages) == 1:
            replicas.append(Replica(env, number, scheduler, pace(scenario, own), *common))
        else:
            replicas.append(PipelineReplica(
                env, number, replace(scheduler, max_num_seqs=scenario.serving.micro_batch_seqs),
                pipeline_pace(scenario, own), len(own.stages), own.transfer_s, *common,
                (lambda: arrivals.next_s) if asks else (lambda box=inbox: box.next_s),  # type: ignore[misc]
            ))  # fmt: skip
        if names is not None:
            add_cache(replicas[-1], scenario.serving, own.limits, names, own.architecture.num_layers)
    if asks:
        arrivals.start(replicas if scaling is None else [*replicas, scaling.lobby])
    power = _start_power(env, scenario, deployment, replicas, run_log, request_log, scaling)
    env.run()
    return ServingRun(deployment, request_log, run_log, replicas, power)


def _deploy(scenario: Scenario, scaler: Scaler | None, requests: RequestTable) -> tuple[Deployment, BatchScheduler]:
    """All kinds of replicas, and the scheduler that they share."""
    deployment = deploy(scenario)
    scheduler = make_scheduler(scenario, deployment)
    if scaler is not None:
        deployment = with_shapes(scenario, deployment, scaler, requests)
    for shape in shapes_of(deployment, scenario.serving.replicas):
        check_reservation(scenario, scheduler, shape.deployment)
    return deployment, scheduler


def _start_power(
    env: simpy.Environment,
    scenario: Scenario,
    deployment: Deployment,
    replicas: list[Replica | PipelineReplica],
    run_log: RunLog,
    request_log: RequestLog,
    scaling: Scaling | None,
) -> PowerRun | None:
    """Meters and controllers, which go on while requests are left; None where the scenario has no [power]."""
    if scenario.power is None:
        return None
    engines = [replica for replica in replicas if isinstance(replica, Replica)]
    count = len(request_log.requests)
    working = lambda: request_log.finished + len(request_log.rejected) < count  # noqa: E731
    return start_power(env, scenario, deployment, engines, run_log, working, scaling)


def make_scheduler(scenario: Scenario, deployment: Deployment) -> BatchScheduler:
    """The scenario's batch scheduler."""
    serving = scenario.serving
    limits = {
        "max_num_seqs": serving.max_num_seqs,
        "max_num_batched_tokens": serving.max_num_batched_tokens,
        "max_model_len": serving.max_model_len or 0,
    }
    choice = serving.scheduler
    needs_length = choice.name in SCHEDULERS and not SCHEDULERS[choice.name].grows_by_block
    if needs_length and choice.keys.get("reservation", "max") != "oracle" and not serving.max_model_len:
        limits["max_model_len"] = deployment.architecture.max_position_embeddings
    return make_policy("serving.scheduler", choice, SCHEDULERS, limits)


def check_reservation(scenario: Scenario, scheduler: BatchScheduler, deployment: Deployment) -> None:
    """Raise DoesNotFitError where the least that the scheduler sets aside for a sequence exceeds all KV blocks, so
    that no request could ever be served; the message has the largest serving.max_model_len that fits.
    """
    limits, length = deployment.limits, scheduler.max_model_len
    needed = _least_reservation(scheduler, limits.block_size)
    if needed <= limits.kv_blocks:
        return
    fits, too_long = 0, length  # bisect, since only the scheduler knows what a length takes
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        shorter = replace(scheduler, max_model_len=middle)
        if _least_reservation(shorter, limits.block_size) <= limits.kv_blocks:
            fits = middle
        else:
            too_long = middle
    given = scenario.serving.max_model_len is not None
    origin = "" if given else f" (the positions of {deployment.architecture.name}, as none is given)"
    remedy = f"give at most {fits}, or" if fits else "give"
    raise DoesNotFitError(
        f"serving.max_model_len = {length}{origin}: scheduler '{scenario.serving.scheduler.name}' sets aside {needed}"
        f" KV blocks of {limits.block_size} tokens for each sequence, of the {limits.kv_blocks} that there are;"
        f" {remedy} more memory"
    )


def _least_reservation(scheduler: BatchScheduler, block_size: int) -> int:
    """KV blocks taken on admission by the shortest request, a token in and a token out."""
    shortest = Sequence(index=0, arrival_s=0.0, prompt_tokens=1, output_tokens=1, priority=0, to_prefill=1)
    return scheduler.blocks_at_admission(shortest, block_size)
