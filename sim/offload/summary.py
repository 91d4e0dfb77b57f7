"""The figures of an offloaded step: how long, what each stream and tier did, what bound it, how sure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hardware_models import catalog
from policies.offload import DRIVES, GPU, HOST
from policies.offload.writer import ADAM, BACKWARD, CAST, D2H, FORWARD, GATHER, H2D, OPTIMIZER, READ, REDUCE, SUM, WRITE
from sim.offload.critical import critical_seconds
from sim.offload.simulate import OffloadRun
from sim.offload.trainable import largest_trainable
from sim.training.energy_account import step_account
from sim.training.pricing import FACTORS, Spent
from sim.training.shared_errors import calibrations
from sim.training.step_power import StepPower, power_notes
from sim.training.summary import GRADES, grades, intervals, step_interval, unsure_s
from sim.training.work_done import model_flop_per_token

MOVED = {"h2d": (H2D,), "d2h": (D2H,), "ssd_read": (READ,), "ssd_write": (WRITE,), "cpu": (ADAM, CAST, SUM)}
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
    GATHER: "weights gathered among GPUs",
    REDUCE: "gradients reduced among GPUs",
    "host": "the host",
}


def summarise(run: OffloadRun) -> dict[str, Any]:
    """All figures of a run, as `summary.json` holds them; keys as of any training step, and "offload"."""
    plan, training, scenario = run.plan, run.deployment, run.deployment.scenario
    layout, step_s = training.layout, run.step_s
    tokens = layout.global_batch * scenario.training.seq_length
    per_token = model_flop_per_token(training.architecture, scenario.training.seq_length, training.vocabulary)
    peak = training.gpu.peak_flop_per_s[training.cut.dtype]
    rate = tokens * per_token / step_s / layout.gpus
    taken = stream_seconds(run)
    passes = _passes(run)
    again = passes.matrix_flop + passes.masked_flop
    power = StepPower.of(run)
    spent_j = power.parts_j
    energy_j = sum(spent_j.values())
    price = catalog.price_usd_per_gpu_h(training.gpu.variation_of or training.gpu.name)
    usd_per_s = price * training.cluster_gpus / 3600.0
    critical = critical_seconds(run.graph, run.times)
    summary: dict[str, Any] = {
        "kind": "training",
        "name": scenario.name,
        "model": training.architecture.name,
        "node": training.node.name,
        "gpu": training.gpu.name,
        "gpus": layout.gpus,
        "cluster_gpus": training.cluster_gpus,
        "seed": scenario.seed,
        "data_parallel_size": layout.dp,
        "micro_batches": layout.micro_batches,
        "step_s": step_s,
        "undisturbed_step_s": step_s,
        "tokens_per_s": tokens / step_s,
        "tokens_per_s_per_gpu": tokens / step_s / layout.gpus,
        "samples_per_s": layout.global_batch / step_s,
        "model_flop_per_s_per_gpu": rate,
        "mfu": rate / peak,
        "hfu": again / step_s / peak,
        "clock_fraction": training.clock,
        "pipeline_bubble_fraction": 0.0,
        "bound_by": _shares(run, passes),
        "exposed": _exposed(run),
        "memory": _memory(run),
        "energy_j_per_step": energy_j,
        "energy_j_per_token": energy_j / tokens,
        "mean_power_w_per_gpu": energy_j / step_s / layout.gpus,
        "usd_per_gpu_h": price,
        "usd_per_billion_tokens": usd_per_s * step_s / tokens * 1e9,
    }
    summary["energy"] = step_account(training, spent_j, power.cluster.mean_w, step_s, tokens)
    summary["power"] = power.entry()
    summary["interval_90"] = intervals(summary, step_interval(run, step_s))
    summary["unsure"] = dict(zip(FACTORS, unsure_s(run), strict=True))
    summary["calibrations"] = calibrations(run)
    summary["grades"] = grades(run) | {name: one.grade for name, one in plan.tiers.sources().items()}
    summary["grade"] = max(summary["grades"].values(), key=GRADES.index)
    summary["offload"] = {
        "policy": scenario.offload.policy.name if scenario.offload is not None else "",
        "recompute": training.scenario.training.recompute.name,
        "busy_fraction": {name: seconds / step_s for name, seconds in taken.items()},
        "moved_bytes": moved_bytes(run),
        "critical_s": critical,
        "tiers": _tiers(run),
        "short_bytes": run.needs_short,
        "task_s": _task_seconds(run),
        "largest": asdict(largest_trainable(plan)),
    }
    summary["bottleneck"] = bottleneck(critical, step_s, taken)
    summary["notes"] = _notes(run) + power_notes(summary["power"])
    return summary


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


def _memory(run: OffloadRun) -> dict[str, Any]:
    peak = run.memory.peaks[0]
    return {
        "fits": not run.needs_short,
        "peak_bytes": peak.used_bytes,
        "budget_bytes": run.memory.budget_bytes,
        "device_bytes": float(run.deployment.gpu.memory_bytes),
        "host_peak_bytes": run.memory.host_bytes,
        "stage": 0,
        "at_s": peak.t_s,
        "owners": peak.owners,
        "stage_peak_bytes": [peak.used_bytes],
        "verdict": run.verdict,
    }


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


def _notes(run: OffloadRun) -> list[str]:
    said = []
    if run.needs_short:
        said.append(f"the plan does not fit: {run.verdict}")
    idle = run.deployment.cluster_gpus - run.deployment.layout.gpus
    if idle:
        said.append(f"{idle} of {run.deployment.cluster_gpus} GPUs train nothing; they cost all the same")
    said.append("reads and writes are taken to share a drive's time; its caches are taken to be full")
    return said
