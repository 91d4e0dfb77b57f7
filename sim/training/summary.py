"""The figures of a training step: how long, how well used, what stood in the way, how full, how sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim.training.certainty import certainty, spent_on
from sim.training.pricing import Spent
from sim.training.reasons import bottleneck, notes
from sim.training.simulate import TrainingRun
from sim.training.step_figures import StepUse, memory_figures, model_flop_per_s, step_figures
from sim.training.step_kinds import GATHER, HOST, LAUNCH, OPTIMIZER, REDUCE, SEND_BACKWARD, SEND_FORWARD
from sim.training.step_power import power_notes

PASSES = ("forward", "backward", "backward_input", "backward_weight")


def summarise(run: TrainingRun) -> dict[str, Any]:
    """All figures of a run, as `summary.json` holds them; seconds, bytes, joules, shares of one."""
    deployment, layout, step_s = run.deployment, run.deployment.layout, run.step_s
    idle_s, busy = _streams(run)
    repeated = sum(one.recompute.matrix_flop + one.recompute.masked_flop for one in deployment.stages)
    again = repeated * layout.micro_batches / layout.pp
    use = StepUse(
        hardware_flop_per_s=model_flop_per_s(run) + again / step_s,
        bubble_fraction=_bubble(run, step_s),
        bound_by=_shares(run, step_s, idle_s, busy),
        exposed=_exposed(run, step_s, busy),
        memory=memory_figures(run, fits=run.memory.fits, verdict=run.memory.verdict()),
    )
    summary = step_figures(run, use)
    summary |= certainty(run, summary)
    summary["bottleneck"] = bottleneck(summary)
    summary["notes"] = notes(run, summary) + power_notes(summary["power"])
    return summary


def _streams(run: TrainingRun) -> tuple[list[float], dict[tuple[int, str], float]]:
    """Seconds each stage's compute stream is idle, and seconds each (stage, kind) of task takes."""
    taken: dict[tuple[int, str], float] = {}
    graph = run.graph
    busy = [0.0] * run.deployment.layout.pp
    for stream, duration, kind in zip(graph.stream, graph.duration_s, graph.kind, strict=True):
        if stream < 0:
            continue
        place = graph.streams[stream]
        if kind != LAUNCH or place.name == "compute":  # elsewhere it keeps nobody waiting
            taken[place.device, kind] = taken.get((place.device, kind), 0.0) + duration
        if place.name == "compute":
            busy[place.device] += duration
    return [run.step_s - one for one in busy], taken


def _hidden_s(spent: Spent, busy: Mapping[tuple[int, str], float], device: int) -> float:
    """Of exchanges among experts, what paired passes hide behind work."""
    passes = sum(busy.get((device, kind), 0.0) for kind in PASSES)
    return min(spent.expert_s, max(0.0, spent.seconds - passes))


def _slowed(run: TrainingRun, spent: Spent, busy: Mapping[tuple[int, str], float], device: int) -> float:
    """How many times as long a stage's passes took as they would on a GPU like the others."""
    if run.step_s == run.undisturbed_s:
        return 1.0
    passes = sum(busy.get((device, kind), 0.0) for kind in PASSES)
    return passes / spent.seconds if spent.seconds else 1.0


def _shares(
    run: TrainingRun, step_s: float, idle_s: list[float], busy: Mapping[tuple[int, str], float]
) -> dict[str, float]:
    """Of the step, averaged over stages: what compute streams waited for, and that they stood idle; they sum to 1."""
    sums = {"compute": 0.0, "memory": 0.0, "launch": 0.0, "network": 0.0, "host": 0.0, "idle": 0.0}
    for device, idle in enumerate(idle_s):
        spent = spent_on(run, device)
        spent = spent.times(_slowed(run, spent, busy, device))
        sums["compute"] += spent.compute_s
        sums["memory"] += spent.memory_s + busy.get((device, OPTIMIZER), 0.0)
        sums["launch"] += spent.launch_s
        sums["network"] += spent.network_s - _hidden_s(spent, busy, device)
        sums["host"] += busy.get((device, HOST), 0.0) + busy.get((device, LAUNCH), 0.0)
        sums["idle"] += idle
    return {f"{name}_fraction": value / step_s / len(idle_s) for name, value in sums.items()}


def _bubble(run: TrainingRun, step_s: float) -> float:
    """Of the passes' span, the share in which a stage's rank had none to run, averaged over stages."""
    graph, times = run.graph, run.times
    pp = run.deployment.layout.pp
    first, last, busy = [step_s] * pp, [0.0] * pp, [0.0] * pp
    for task, (stream, kind) in enumerate(zip(graph.stream, graph.kind, strict=True)):
        if kind in PASSES:
            device = graph.streams[stream].device
            first[device] = min(first[device], times.start_s[task])
            last[device] = max(last[device], times.end_s[task])
            busy[device] += graph.duration_s[task]
    span = max(last) - min(first)
    if run.deployment.schedule.post_validates:  # what devices begin later they end later, in every step
        span = max(end - start for start, end in zip(first, last, strict=True))
    return max(0.0, 1.0 - sum(busy) / (pp * span)) if span > 0 else 0.0  # rounding


def _exposed(run: TrainingRun, step_s: float, busy: dict[tuple[int, str], float]) -> dict[str, float]:
    """Shares of the step: tensor-, context- and expert-parallel exchanges nothing hides, and how long streams of sends
    and of exchanges between copies are in use, hidden or not; averages over stages.
    """
    pp = run.deployment.layout.pp

    def share(*kinds: str) -> float:
        return sum(busy.get((device, kind), 0.0) for device in range(pp) for kind in kinds) / step_s / pp

    spent = [spent_on(run, device) for device in range(pp)]
    return {
        "tensor_parallel_fraction": sum(one.network_s - one.context_s - one.expert_s for one in spent) / step_s / pp,
        "context_parallel_fraction": sum(one.context_s for one in spent) / step_s / pp,
        "expert_parallel_fraction": sum(one.expert_s - _hidden_s(one, busy, device) for device, one in enumerate(spent))
        / step_s
        / pp,
        "pipeline_sends_fraction": share(SEND_FORWARD, SEND_BACKWARD),
        "data_parallel_fraction": share(GATHER, REDUCE),
        "optimizer_fraction": share(OPTIMIZER),
        "host_fraction": share(HOST, LAUNCH),
    }
