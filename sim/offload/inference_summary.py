"""The figures of a batch job of offloaded inference: how fast, what stood in the way, how full each tier, how sure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models import catalog
from hardware_models.device import Device
from hardware_models.intervals import NORMAL_90
from hardware_models.ops import Gemm
from hardware_models.provenance import worst_grade
from policies.offload.block_plan import TIERS, BlockPlan
from policies.offload.block_tasks import STREAMS
from policies.offload.expert_plan import ExpertPlan
from policies.offload.flash_plan import FlashPlan
from sim.offload.inference_deployment import InferenceDeployment
from sim.offload.inference_run import InferenceRun
from sim.training.reasons import no_price_note

Floats = NDArray[np.float64]
# In whose name time passes: the first of these with a stream in use
BOUNDS = {"compute": ("gpu",), "host": ("cpu",), "storage": ("drives",), "copies": ("h2d", "d2h")}
WORDS = {
    "compute": "the GPU computes",
    "host": "the CPU computes",
    "storage": "the GPU waits for drives",
    "copies": "the GPU waits for copies over its link",
    "idle": "nothing runs",
}
KIND_WORDS = {"load_weight": "weights", "load_cache": "the KV cache", "store_cache": "the KV cache",
              "load_activation": "activations", "store_activation": "activations"}  # fmt: skip
SPREAD = {"host": 0.3, "storage": 0.2, "copies": 0.15, "idle": 0.0}  # of log(measured / simulated); assumed


def summarise_inference(run: InferenceRun) -> dict[str, Any]:
    """All figures of a run, as `summary.json` holds them; seconds, bytes, shares of one."""
    deployment, plan = run.deployment, run.deployment.plan
    job, scenario = deployment.job, deployment.scenario
    requests = job.requests or plan.sequences
    blocks = -(-requests // plan.sequences)
    duration_s = blocks * run.block_s
    outputs = requests * job.output_tokens
    shares = bound_by(run)
    price = catalog.list_price_usd_per_gpu_h(deployment.gpu)
    usd = None if price is None else price * duration_s / 3600.0
    steps = job.output_tokens - 1
    summary: dict[str, Any] = {
        "kind": "offload",
        "name": scenario.name,
        "model": deployment.architecture.name,
        "node": deployment.node.name,
        "gpu": deployment.gpu.name,
        "gpus": 1,
        "cluster_gpus": deployment.node.gpus,
        "seed": scenario.seed,
        "policy": scenario.offload.policy.name,
        "plan": plan_table(plan),
        "requests": requests,
        "blocks": blocks,
        "block_sequences": plan.sequences,
        "duration_s": duration_s,
        "output_throughput": outputs / duration_s,
        "total_token_throughput": requests * (job.prompt_tokens + job.output_tokens) / duration_s,
        "prefill_s": run.prefill_s,
        "decode_s": run.decode_s,
        "decode_step_s": run.decode_s / steps if steps else None,
        "decode_throughput": plan.sequences * steps / run.decode_s if steps else None,
        "bound_by": shares,
        "busy": _busy(run),
        "phases": _phases(run),
        "moved_bytes": _moved(run),
        "memory": _memory(run),
        "cost_usd": usd,
        "usd_per_million_output_tokens": None if usd is None else usd / outputs * 1e6,
    }
    if run.counts:
        summary["by_need"] = run.counts
    summary["interval_90"] = _intervals(run, summary)
    summary["grades"] = _grades(deployment, summary)
    summary["grade"] = worst_grade(summary["grades"].values())
    summary["bottleneck"] = _bottleneck(summary)
    summary["notes"] = _notes(run, summary)
    return summary


def plan_table(plan: BlockPlan) -> dict[str, Any]:
    """What was decided, shares as [GPU, host, storage]."""
    shares = {
        name: [split.of(tier) for tier in TIERS]
        for name, split in (("weights", plan.weights), ("kv_cache", plan.kv), ("activations", plan.activations))
    }
    return {
        **shares,
        "gpu_batch_size": plan.gpu_batch_size,
        "num_gpu_batches": plan.num_gpu_batches,
        "cpu_attention": plan.cpu_attention,
        "compress_weights": plan.compress_weights,
        "compress_cache": plan.compress_kv,
        "overlap": plan.overlap,
    }


def _spans(run: InferenceRun) -> tuple[Floats, Floats, NDArray[np.int64]]:
    return (
        np.asarray(run.times.start_s, dtype=np.float64),
        np.asarray(run.times.end_s, dtype=np.float64),
        np.asarray(run.graph.stream, dtype=np.int64),
    )


def bound_by(run: InferenceRun) -> dict[str, float]:
    """Shares of a block's time by what the GPU waits for while it computes nothing; they sum to 1."""
    start, end, stream = _spans(run)
    covered: list[float] = []
    for count in range(1, len(BOUNDS) + 1):
        names = [name for group in list(BOUNDS.values())[:count] for name in group]
        chosen = np.isin(stream, [STREAMS.index(name) for name in names])
        covered.append(_weighted(run, start[chosen], end[chosen]))
    steps = np.diff([0.0, *covered]) / run.block_s
    shares = {f"{name}_fraction": float(max(0.0, share)) for name, share in zip(BOUNDS, steps, strict=True)}
    return {**shares, "idle_fraction": max(0.0, 1.0 - sum(shares.values()))}


def _weighted(run: InferenceRun, start: Floats, end: Floats) -> float:
    """Seconds of a block in which one of these tasks runs, steps between those that were run included."""
    total = 0.0
    for number, weight in enumerate(run.weights):
        low, high = run.bounds_s[number], run.bounds_s[number + 1]
        begins, ends = np.clip(start, low, high), np.clip(end, low, high)
        order = np.argsort(begins, kind="stable")
        begins, ends = begins[order], ends[order]
        reached = np.maximum.accumulate(np.concatenate(([low], ends)))
        total += weight * float(np.maximum(ends - np.maximum(begins, reached[:-1]), 0.0).sum())
    return total


def _busy(run: InferenceRun) -> dict[str, float]:
    """Share of a block's time in which each stream is in use."""
    start, end, stream = _spans(run)
    return {
        f"{name}_fraction": _weighted(run, start[stream == number], end[stream == number]) / run.block_s
        for number, name in enumerate(STREAMS)
    }


def _task_weights(run: InferenceRun) -> tuple[NDArray[np.int64], Floats]:
    """Of each task, the step in which it begins, as a place in `run.steps`, and for how many steps that stands."""
    start = np.asarray(run.times.start_s)
    place = np.clip(np.searchsorted(run.bounds_s, start, side="right") - 1, 0, len(run.steps) - 1)
    return place, run.weights[place]


def _phases(run: InferenceRun) -> dict[str, dict[str, float]]:
    """Seconds of each kind of task in reading prompts and in decoding, of a block and of one layer of one step."""
    start, end, stream = _spans(run)
    place, weight = _task_weights(run)
    layers = run.deployment.architecture.num_layers
    steps = max(1, run.deployment.job.output_tokens - 1)
    found: dict[str, dict[str, float]] = {"prefill": {}, "decode": {}, "prefill_layer": {}, "decode_layer": {}}
    kinds = np.array(run.graph.kind)
    for kind in sorted(set(kinds[stream >= 0])):
        mine = (kinds == kind) & (stream >= 0)
        for phase, inside, count in (("prefill", place == 0, 1), ("decode", place > 0, steps)):
            seconds = float(((end - start) * weight)[mine & inside].sum())
            found[phase][f"{kind}_s"] = seconds
            found[f"{phase}_layer"][f"{kind}_s"] = seconds / layers / count
    return found


def _moved(run: InferenceRun) -> dict[str, float]:
    """Bytes of a block over each stream that moves any."""
    _, weight = _task_weights(run)
    found = dict.fromkeys(("h2d", "d2h", "read", "write"), 0.0)
    for one in run.moved:
        found[one.route.partition("_")[0]] += one.size_bytes * float(weight[one.task])
    return found


def _memory(run: InferenceRun) -> dict[str, Any]:
    return {
        tier: {
            "peak_bytes": peak.used_bytes,
            "budget_bytes": run.deployment.budgets[tier],
            "at_s": peak.t_s,
            "owners": peak.owners,
            "fits": peak.used_bytes <= run.deployment.budgets[tier],
        }
        for tier, peak in run.peaks.items()
    }


def _intervals(run: InferenceRun, summary: dict[str, Any]) -> dict[str, list[float]]:
    """The central 90 %: what bounds each share of the time errs on its own, and alike throughout."""
    device = Device(run.deployment.gpu)
    dtype = run.deployment.scenario.model.compute_dtype
    op = Gemm(m=512.0, n=4096.0, k=4096.0, dtype=dtype, weight_dtype=dtype)
    spread = {"compute": float(device.sigma(op, device.price(op))), **SPREAD}
    shares = summary["bound_by"]
    sigma = float(np.sqrt(sum((shares[f"{name}_fraction"] * size) ** 2 for name, size in spread.items())))
    low, high = float(np.exp(-NORMAL_90 * sigma)), float(np.exp(NORMAL_90 * sigma))
    rates = ("output_throughput", "total_token_throughput")
    found = {key: [summary[key] * low, summary[key] * high] for key in (*rates, "duration_s")}
    if summary["usd_per_million_output_tokens"] is not None:
        for key in ("cost_usd", "usd_per_million_output_tokens"):
            found[key] = [summary[key] * low, summary[key] * high]
    return found


def _grades(deployment: InferenceDeployment, summary: dict[str, Any]) -> dict[str, str]:
    """Of what the run rests on; of tiers, those that something crosses."""
    sources = {name: source.grade for name, source in deployment.tiers.sources().items()}
    device, dtype = Device(deployment.gpu), deployment.scenario.model.compute_dtype
    grades = {"operators": device.kernel(Gemm(m=512.0, n=4096.0, k=4096.0, dtype=dtype, weight_dtype=dtype)).grade}
    moved, rates = summary["moved_bytes"], deployment.scenario.offload.rates
    if moved["h2d"] or moved["d2h"]:
        grades["copies"] = "quoted" if rates.h2d_bytes_per_s else sources["copies"]
    if moved["read"] or moved["write"]:
        grades["drives"] = "quoted" if rates.storage_read_bytes_per_s else sources["drives"]
    if summary["busy"]["cpu_fraction"]:
        stated = rates.cpu_attention_flop_per_s or rates.cpu_stream_bytes_per_s
        grades["CPU"] = "quoted" if stated else sources["CPU"]
    if isinstance(deployment.plan, ExpertPlan | FlashPlan):
        grades["activation"] = "assumed"
    return grades


def _bottleneck(summary: dict[str, Any]) -> str:
    """The largest shares of the time, and what is carried meanwhile."""
    shares = sorted(
        ((value, key.removesuffix("_fraction")) for key, value in summary["bound_by"].items()), reverse=True
    )
    (first, what), (second, then) = shares[0], shares[1]
    carried = {
        kind: seconds
        for phase in ("prefill", "decode")
        for kind, seconds in summary["phases"][phase].items()
        if kind != "compute_s"
    }
    text = f"{first:.0%} of the time {WORDS[what]}"
    if what in ("storage", "copies"):
        kind = max(carried, key=lambda one: carried[one]).removesuffix("_s")
        text += f", most of it for {KIND_WORDS[kind]}"
    text += f", then {second:.0%} {WORDS[then]}." if second >= 0.01 else "."
    return text if summary["busy"]["gpu_fraction"] else text.replace("the GPU", "the CPU")


def _notes(run: InferenceRun, summary: dict[str, Any]) -> list[str]:
    deployment, plan = run.deployment, run.deployment.plan
    said = []
    idle = deployment.node.gpus - 1
    if idle:
        said.append(f"one GPU of {deployment.node.gpus} works; the others are idle, and not in the cost")
    if summary["requests"] % plan.sequences:
        said.append("the last block is not full, and takes as long as a full one")
    said += [
        f"{tier} is over its capacity: {one['peak_bytes'] / 1e9:,.1f} of {one['budget_bytes'] / 1e9:,.1f} GB"
        for tier, one in summary["memory"].items()
        if not one["fits"]
    ]
    said += no_price_note(deployment.gpu, summary["usd_per_million_output_tokens"])
    if len(run.steps) - 1 < deployment.job.output_tokens - 1:
        said.append(
            f"{len(run.steps) - 1} of {deployment.job.output_tokens - 1} decoding steps were run whole, the others"
            " taken as between them; --exact runs all"
        )
    return said
