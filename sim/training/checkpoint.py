"""Checkpoints of a training on the clock: steps as long as the one simulated, and saves beside or between them."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

from hardware_models.errors import DoesNotFitError, ImpossibleError
from hardware_models.specs import NodeSpec
from hardware_models.tiers import tiers
from policies.checkpoint import CHECKPOINT, CheckpointJob
from policies.checkpoint.job import COPY, FRESH, PAGEABLE, PINNED, STORAGE, THREAD, UPDATE, WRITE
from policies.task_graph import TaskGraph
from sim.checkpoint_section import CheckpointSection
from sim.graph.executor import execute
from sim.graph.memory import MemoryLedger
from sim.graph.times import Times
from sim.policy_choice import make_policy
from sim.training.data_parallel import Exchanges
from sim.training.memory import held_bytes
from sim.training.simulate import TrainingRun
from sim.training.step_kinds import OPTIMIZER

ROUNDING = 1e-9  # relative: less is no wait


def checkpoint_figures(run: TrainingRun) -> dict[str, Any] | None:
    """Figures of saving this run's states; None where none are saved.

    Blocked is what the training waits for besides its steps, a checkpoint; perceived, the bytes of all ranks over it.
    Raises ImpossibleError for checkpoints that cannot be, DoesNotFitError for those beyond host memory.
    """
    section = run.deployment.scenario.checkpoint
    if section is None:
        return None
    if run.deployment.scenario.offload is not None:
        raise ImpossibleError("checkpoint: states of [offload] are below the GPU already; leave out one of the two")
    job = checkpoint_job(run, section)
    graph = make_policy("checkpoint.policy", section.policy, CHECKPOINT, {}).write(job)
    times = execute(graph)
    peak = MemoryLedger(graph).usage(times).peak(0).used_bytes * job.ranks_in_server
    _check_host(run.deployment.node, graph.pools[0].budget_bytes * job.ranks_in_server, peak)
    lost_s = _last_update(graph, times) - job.steps * job.step_s
    blocked_s = lost_s / job.count if lost_s > ROUNDING * times.makespan_s else 0.0
    total = saved_bytes(run)
    return {
        "policy": section.policy.name,
        "every": section.every,
        "count": section.count,
        "total_bytes": total,
        "rank_bytes": job.shard_bytes,
        "written_bytes": _moved(graph, WRITE),
        "copied_bytes": _moved(graph, COPY),
        "blocked_s": blocked_s,
        "perceived_bytes_per_s": total / blocked_s if blocked_s else None,
        "iteration_s": job.step_s + blocked_s / job.every,
        "written_s": times.makespan_s,
        "host_peak_bytes": peak,
    }


def _check_host(node: NodeSpec, ring_bytes: float, peak_bytes: float) -> None:
    """Raises DoesNotFitError for a ring, infinite where there is none, or snapshots beyond a server's host memory."""
    room = tiers(node).dram_bytes
    if isfinite(ring_bytes) and ring_bytes > room:
        raise DoesNotFitError(
            f"checkpoint.policy.host_buffer_bytes = {ring_bytes:g}: {node.name}'s host memory is"
            f" {(ring_bytes - room) / 1e9:,.1f} GB too small for it; give at most {room:.3g}"
        )
    if peak_bytes > room:
        raise DoesNotFitError(
            f"checkpoint: snapshots would take {peak_bytes / 1e9:,.1f} GB of {node.name}'s host memory,"
            f" {(peak_bytes - room) / 1e9:,.1f} GB more than it has; save from more servers, or take datastates or"
            " synchronous, which need no room for all of it"
        )


def checkpoint_job(run: TrainingRun, section: CheckpointSection) -> CheckpointJob:
    """One rank's part, of the fullest pipeline stage; all GPUs of a server save at once."""
    deployment = run.deployment
    node, layout = deployment.node, deployment.layout
    ranks = layout.tp * layout.pp * layout.dp * layout.cp
    here = min(node.gpus, ranks)
    has = tiers(node)
    if section.node_bytes_per_s is None and has.drives is None:
        raise ImpossibleError(f"checkpoint.node_bytes_per_s: {node.name} has no drives; give what it writes to storage")
    a_node = section.node_bytes_per_s or has.need_drives().sustained_write_bytes_per_s
    storage = min(a_node / here, (section.total_bytes_per_s or inf) / ranks)
    update_s = _update_s(run)
    return CheckpointJob(
        pass_s=run.step_s - update_s,
        update_s=update_s,
        shard_bytes=_shard_bytes(run),
        every=section.every,
        count=section.count,
        ranks_in_server=here,
        rates={
            PINNED: has.copy_bytes_per_s("d2h", here),
            PAGEABLE: has.copy_bytes_per_s("d2h", here, pinned=False),
            FRESH: has.rates.fresh_bytes_per_s,
            THREAD: has.rates.save_bytes_per_s,
            STORAGE: storage,
        },
    )


def saved_bytes(run: TrainingRun) -> float:
    """Of one checkpoint: every weight and its optimizer states once."""
    deployment, exchanges = run.deployment, Exchanges(run.deployment)
    layout = deployment.layout
    experts = sum(exchanges.device_experts(device) for device in range(layout.pp))
    others = sum(exchanges.device_parameters(device) for device in range(layout.pp)) - experts
    parameters = others * layout.tp + experts * layout.etp * layout.ep
    return parameters * (deployment.held_weight_bytes + deployment.framework.optimizer_state_bytes)


def _shard_bytes(run: TrainingRun) -> float:
    """Of the rank that saves the most: its weights and its part of the optimizer's states."""
    exchanges = Exchanges(run.deployment)
    held = [held_bytes(run.deployment, exchanges, device) for device in range(run.deployment.layout.pp)]
    return max(one["weights"] + one["optimizer"] for one in held)


def _update_s(run: TrainingRun) -> float:
    """The optimizer's, on the slowest stage."""
    found: dict[int, float] = {}
    for task, kind in enumerate(run.graph.kind):
        if kind == OPTIMIZER:
            stream = run.graph.stream[task]
            found[stream] = found.get(stream, 0.0) + run.graph.duration_s[task]
    return max(found.values(), default=0.0)


def _last_update(graph: TaskGraph, times: Times) -> float:
    return max(times.end_s[task] for task, kind in enumerate(graph.kind) if kind == UPDATE)


def _moved(graph: TaskGraph, kind: str) -> float:
    return sum(transfer.size_bytes for task, transfer in graph.transfer.items() if graph.kind[task] == kind)


def sentence(figures: dict[str, Any]) -> str:
    """What a reader is told of it."""
    waits = "does not wait"
    if rate := figures["perceived_bytes_per_s"]:
        waits = f"waits {figures['blocked_s']:.3g} s ({rate / 1e9:,.3g} GB/s)"
    return (
        f"the training {waits} for a checkpoint ({figures['policy']}) of {figures['total_bytes'] / 1e9:,.3g} GB every"
        f" {figures['every']:,} steps: a step takes {figures['iteration_s']:.3g} s on average"
    )
