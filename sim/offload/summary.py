"""The figures of an offloaded step: how long, what each stream and tier did, what bound it, how sure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from policies.offload import DRIVES, GPU, HOST, Zo2
from policies.offload.writer import (
    ADAM,
    BACKWARD,
    CAST,
    D2H,
    FORWARD,
    GATHER,
    H2D,
    NARROW,
    OPTIMIZER,
    READ,
    REDUCE,
    SCAN,
    SUM,
    WRITE,
)
from sim.offload.critical import critical_seconds
from sim.offload.forwards import ASKED
from sim.offload.phases import phase_seconds
from sim.offload.simulate import OffloadRun
from sim.offload.trainable import largest_trainable
from sim.training.certainty import certainty
from sim.training.pricing import Spent
from sim.training.reasons import idle_gpus_note, no_price_note
from sim.training.step_figures import StepUse, memory_figures, step_figures
from sim.training.step_power import power_notes

CPU = (ADAM, CAST, SUM, NARROW, SCAN)
MOVED = {"h2d": (H2D,), "d2h": (D2H,), "ssd_read": (READ,), "ssd_write": (WRITE,), "cpu": CPU}
KEYS = {GPU: "gpu", HOST: "host", DRIVES: "drives"}
WORDS = {
    FORWARD: "the GPU's forward",
    BACKWARD: "the GPU's backward",
    OPTIMIZER: "the GPU's optimizer",
    H2D: "copies to the GPU",
    D2H: "copies to host memory",
    READ: "reads from drives",
    WRITE: "writes to drives",
    ADAM: "Adam on the CPU",
    CAST: "gradients turned to fp32 on the CPU",
    SUM: "gradients summed on the CPU",
    NARROW: "new weights turned to 16 bits on the CPU",
    SCAN: "the search for overflows on the CPU",
    GATHER: "weights gathered among GPUs",
    REDUCE: "gradients reduced among GPUs",
    "host": "the host",
}


def summarise(run: OffloadRun) -> dict[str, Any]:
    """All figures of a run, as `summary.json` holds them; keys as of any training step, and "offload"."""
    passes, taken = _passes(run), stream_seconds(run)
    critical = critical_seconds(run.graph, run.times)
    use = StepUse(
        hardware_flop_per_s=(passes.matrix_flop + passes.masked_flop) / run.step_s,
        bubble_fraction=0.0,
        bound_by=_shares(run, passes),
        exposed=_exposed(run),
        memory=memory_figures(run, fits=not run.needs_short, verdict=run.verdict),
    )
    summary = step_figures(run, use)
    if isinstance(run.plan.policy, Zo2):
        summary |= {key: ASKED * summary[key] for key in ("model_flop_per_s_per_gpu", "mfu")}
    summary |= certainty(run, summary, {name: one.grade for name, one in run.plan.tiers.sources().items()})
    summary["offload"] = _offload(run, taken, critical)
    summary["bottleneck"] = bottleneck(critical, run.step_s, taken)
    summary["notes"] = _notes(run, summary) + power_notes(summary["power"])
    return summary


def _offload(run: OffloadRun, taken: dict[str, float], critical: dict[str, float]) -> dict[str, Any]:
    """What was streamed and where it lay; taken, critical: seconds of streams, and of kinds of tasks that kept the step
    waiting.
    """
    scenario = run.deployment.scenario
    return {
        "policy": scenario.offload.policy.name if scenario.offload is not None else "",
        "recompute": scenario.training.recompute.name,
        "busy_fraction": {name: seconds / run.step_s for name, seconds in taken.items()},
        "moved_bytes": moved_bytes(run),
        "critical_s": critical,
        "tiers": _tiers(run),
        "gpu_process_bytes": _process_bytes(run),
        "drive_life_s": _drive_life_s(run),
        "needed_write_bytes_per_s": 2.0 * moved_bytes(run)["ssd_write"] / run.step_s,
        "short_bytes": run.needs_short,
        "phase_s": phase_seconds(run.graph, run.times, run.plan.work.micro_batches),
        "task_s": _task_seconds(run),
        "largest": asdict(largest_trainable(run.plan)),
    }


def stream_seconds(run: OffloadRun) -> dict[str, float]:
    """Seconds in which each stream was in use; what is left of the step it was idle."""
    busy = {stream.name: 0.0 for stream in run.graph.streams}
    for task, stream in enumerate(run.graph.stream):
        busy[run.graph.streams[stream].name] += run.times.end_s[task] - run.times.start_s[task]
    return busy


def _task_seconds(run: OffloadRun) -> dict[str, float]:
    """Seconds of all tasks of a kind."""
    found: dict[str, float] = {}
    for task, kind in enumerate(run.graph.kind):
        name = kind.replace(" ", "_")
        found[name] = found.get(name, 0.0) + run.times.end_s[task] - run.times.start_s[task]
    return found


def moved_bytes(run: OffloadRun) -> dict[str, float]:
    """Bytes of a rank that crossed each link in a step; cpu: that kernels touched of host memory."""
    by_kind: dict[str, float] = {}
    for task, transfer in run.graph.transfer.items():
        by_kind[run.graph.kind[task]] = by_kind.get(run.graph.kind[task], 0.0) + transfer.size_bytes
    return {name: sum(by_kind.get(kind, 0.0) for kind in kinds) for name, kinds in MOVED.items()}


def bottleneck(critical: dict[str, float], step_s: float, taken: dict[str, float]) -> str:
    """What the step waited for most, and how much of it the GPU computed."""
    parts = [(kind, seconds / step_s) for kind, seconds in critical.items() if kind in WORDS][:3]
    said = ", ".join(f"{share:.0%} for {WORDS[kind]}" for kind, share in parts if share >= 0.005)
    return f"The step waits {said}; the GPU computes {taken['compute'] / step_s:.0%} of it."


def _passes(run: OffloadRun) -> Spent:
    """What the GPU did in passes, of which recomputation that swapping spares is taken away."""
    stage, training = run.deployment.stages[0], run.deployment
    whole = stage.forward.plus(stage.backward).times(training.layout.micro_batches)
    spared = whole.seconds - _busy(run, FORWARD, BACKWARD)
    left = max(0.0, 1.0 - spared / (stage.recompute.seconds * training.layout.micro_batches or 1.0))
    again = stage.recompute.times(training.layout.micro_batches * left)
    rest = stage.forward.plus(stage.backward).plus(stage.recompute.times(-1.0)).times(training.layout.micro_batches)
    return rest.plus(again) if stage.recompute.seconds else whole


def _busy(run: OffloadRun, *kinds: str) -> float:
    return sum(run.graph.duration_s[task] for task, kind in enumerate(run.graph.kind) if kind in kinds)


def _shares(run: OffloadRun, passes: Spent) -> dict[str, float]:
    """Of the step: what the GPU's compute stream waited for, and that it stood idle; they sum to 1."""
    busy, step_s = _busy(run, FORWARD, BACKWARD), run.step_s
    scale = busy / passes.seconds if passes.seconds else 0.0
    optimizer, host = _busy(run, OPTIMIZER), run.plan.machine.host_s
    return {
        "compute_fraction": passes.compute_s * scale / step_s,
        "memory_fraction": (passes.memory_s * scale + optimizer) / step_s,
        "launch_fraction": passes.launch_s * scale / step_s,
        "network_fraction": passes.network_s * scale / step_s,
        "host_fraction": host / step_s,
        "idle_fraction": max(0.0, 1.0 - (busy + optimizer + host) / step_s),
    }


def _exposed(run: OffloadRun) -> dict[str, float]:
    none = ("tensor_parallel", "context_parallel", "expert_parallel", "pipeline_sends")
    return {f"{name}_fraction": 0.0 for name in none} | {
        "data_parallel_fraction": _busy(run, GATHER, REDUCE) / run.step_s,
        "optimizer_fraction": _busy(run, OPTIMIZER) / run.step_s,
        "host_fraction": run.plan.machine.host_s / run.step_s,
    }


def _drive_life_s(run: OffloadRun) -> float | None:
    """Seconds of such steps until drives are worn, where they are rated; no credit for large writes."""
    drives, written = run.plan.tiers.drives, moved_bytes(run)["ssd_write"] * run.plan.ranks_in_server
    if drives is None or drives.spec.endurance_bytes is None or not written:
        return None
    return drives.count * drives.spec.endurance_bytes / (written / run.step_s)


def _process_bytes(run: OffloadRun) -> float:
    """Of a GPU's memory, as its driver tells: what tensors take at most, libraries' workspaces, and the context."""
    framework = run.deployment.framework
    return run.tier_peaks[GPU].used_bytes + framework.workspace_bytes + framework.context_bytes


def _tiers(run: OffloadRun) -> dict[str, Any]:
    """Of one rank."""
    return {
        KEYS[tier]: {
            "name": tier,
            "peak_bytes": peak.used_bytes,
            "budget_bytes": run.plan.machine.budgets[tier],
            "owners": peak.owners,
        }
        for tier, peak in run.tier_peaks.items()
    }


def _notes(run: OffloadRun, summary: dict[str, Any]) -> list[str]:
    said = [f"the plan does not fit: {run.verdict}"] if run.needs_short else []
    said += idle_gpus_note(run)
    said.append("reads and writes are taken to share a drive's time; its caches are taken to be full")
    return [*said, *no_price_note(run.deployment.gpu, summary["usd_per_gpu_h"])]
