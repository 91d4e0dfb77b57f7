"""The figures of a training step: how long, how well used, what stood in the way, how full, how sure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hardware_models import catalog
from hardware_models.collectives import AnyFabric, HierarchicalFabric
from hardware_models.device import Device
from hardware_models.ops import AttentionTraining, Elementwise, Gemm
from sim.training.energy_account import step_account
from sim.training.pricing import FACTORS, NORMAL_90, NOTHING, ROUTING, SOFTWARE, Spent
from sim.training.reasons import bottleneck, notes
from sim.training.shared_errors import calibrations
from sim.training.simulate import TrainingRun
from sim.training.step_kinds import GATHER, HOST, LAUNCH, OPTIMIZER, REDUCE, SEND_BACKWARD, SEND_FORWARD
from sim.training.step_power import StepPower, power_notes
from sim.training.uneven_routing import routing_unsure_s
from sim.training.work_done import model_flop_per_token

GRADES = ("measured", "quoted", "assumed")
PASSES = ("forward", "backward", "backward_input", "backward_weight")


def summarise(run: TrainingRun) -> dict[str, Any]:
    """All figures of a run, as `summary.json` holds them; seconds, bytes, joules, shares of one."""
    deployment = run.deployment
    scenario, layout = deployment.scenario, deployment.layout
    step_s = run.step_s
    tokens = layout.global_batch * scenario.training.seq_length
    idle_s, busy = _streams(run)
    shares = _shares(run, step_s, idle_s, busy)
    per_token = model_flop_per_token(deployment.architecture, scenario.training.seq_length, deployment.vocabulary)
    peak = deployment.gpu.peak_flop_per_s[deployment.cut.dtype]
    rate = tokens * per_token / step_s / layout.gpus
    repeated = sum(one.recompute.matrix_flop + one.recompute.masked_flop for one in deployment.stages)
    again = repeated * layout.micro_batches / layout.pp
    power = StepPower.of(run)
    spent_j = power.parts_j
    energy_j = sum(spent_j.values())
    price = catalog.price_usd_per_gpu_h(deployment.gpu.variation_of or deployment.gpu.name)
    usd_per_s = None if price is None else price * deployment.cluster_gpus / 3600.0
    summary: dict[str, Any] = {
        "kind": "training",
        "name": scenario.name,
        "model": deployment.architecture.name,
        "node": deployment.node.name,
        "gpu": deployment.gpu.name,
        "gpus": layout.gpus,
        "cluster_gpus": deployment.cluster_gpus,
        "seed": scenario.seed,
        "data_parallel_size": layout.dp,
        "micro_batches": layout.micro_batches,
        "step_s": step_s,
        "undisturbed_step_s": run.undisturbed_s,
        "tokens_per_s": tokens / step_s,
        "tokens_per_s_per_gpu": tokens / step_s / layout.gpus,
        "samples_per_s": layout.global_batch / step_s,
        "model_flop_per_s_per_gpu": rate,
        "mfu": rate / peak,
        "hfu": (rate + again / step_s) / peak,
        "clock_fraction": deployment.clock,
        "pipeline_bubble_fraction": _bubble(run, step_s),
        "bound_by": shares,
        "exposed": _exposed(run, step_s, busy),
        "memory": _memory(run),
        "energy_j_per_step": energy_j,
        "energy_j_per_token": energy_j / tokens,
        "mean_power_w_per_gpu": energy_j / step_s / layout.gpus,
        "usd_per_gpu_h": price,
        "usd_per_billion_tokens": None if usd_per_s is None else usd_per_s * step_s / tokens * 1e9,
    }
    summary["energy"] = step_account(deployment, spent_j, power.cluster.mean_w, step_s, tokens)
    summary["power"] = power.entry()
    summary["interval_90"] = intervals(summary, step_interval(run, step_s))
    summary["unsure"] = dict(zip(FACTORS, unsure_s(run), strict=True))
    summary["calibrations"] = calibrations(run)
    summary["grades"] = grades(run)
    summary["grade"] = max(summary["grades"].values(), key=GRADES.index)
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


def _spent(run: TrainingRun, device: int) -> Spent:
    """On all micro-batches by one stage's rank."""
    deployment, total = run.deployment, NOTHING
    for stage in deployment.schedule.stages_on(device, deployment.layout.pp):
        work = deployment.stages[stage]
        total = total.plus(work.forward.plus(work.backward).times(deployment.micro_batches_on(device, stage)))
    return total


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
        spent = _spent(run, device)
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

    spent = [_spent(run, device) for device in range(pp)]
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


def _memory(run: TrainingRun) -> dict[str, Any]:
    use = run.memory
    worst = use.peaks[use.worst]
    return {
        "fits": use.fits,
        "peak_bytes": worst.used_bytes,
        "budget_bytes": use.budget_bytes,
        "device_bytes": float(run.deployment.gpu.memory_bytes),
        "host_peak_bytes": use.host_bytes,
        "stage": use.worst,
        "at_s": worst.t_s,
        "owners": worst.owners,
        "stage_peak_bytes": [peak.used_bytes for peak in use.peaks],
        "verdict": use.verdict(),
    }


def unsure_s(run: TrainingRun) -> list[float]:
    """Seconds of the step that one standard deviation of each factor moves, along the busiest stage."""
    deployment = run.deployment
    device = max(range(deployment.layout.pp), key=lambda one: _spent(run, one).seconds)
    spent = _spent(run, device)
    stretch = (run.step_s / spent.seconds) if spent.seconds else 1.0
    unsure = [seconds * min(stretch, 2.0) for seconds in spent.unsure_s]
    matrix = spent.compute_s * deployment.framework.matrix_sigma
    unsure[0] = float(np.hypot(unsure[0], matrix))
    exchanges = run.exchanges.unsure_s(device)
    unsure[3] += exchanges
    unsure[SOFTWARE] += deployment.framework.host_s_per_step * deployment.framework.host_sigma
    unsure[ROUTING] = routing_unsure_s(deployment)
    return unsure


def step_interval(run: TrainingRun, step_s: float) -> list[float]:
    """The central 90 % of the step: factors err independently, each alike on all its operators."""
    sigma = float(np.sqrt(np.sum(np.square(unsure_s(run))))) / step_s
    low, high = step_s * np.exp(-NORMAL_90 * sigma), step_s * np.exp(NORMAL_90 * sigma)
    return [float(low), float(high)]


def intervals(summary: dict[str, Any], bars: list[float]) -> dict[str, list[float]]:
    """[low, high] of what follows from the step's own: rates fall as it grows, costs grow with it."""
    step_s = summary["step_s"]
    low, high = (end / step_s for end in bars)
    rates = ("tokens_per_s", "tokens_per_s_per_gpu", "samples_per_s", "model_flop_per_s_per_gpu", "mfu", "hfu")
    found = {"step_s": bars} | {key: [summary[key] / high, summary[key] / low] for key in rates}
    cost = summary["usd_per_billion_tokens"]
    return found if cost is None else found | {"usd_per_billion_tokens": [cost * low, cost * high]}


def grades(run: TrainingRun) -> dict[str, str]:
    """How well each kind of input is known: the worst of what a step uses of it."""
    deployment = run.deployment
    device, dtype = Device(deployment.gpu), deployment.cut.dtype
    products = dtype if deployment.cut.fp8 is None else "fp8"
    ops: list[Any] = [
        Gemm(m=1024.0, n=1024.0, k=1024.0, dtype=products, weight_dtype=products),
        Elementwise(elements=1e6, reads=1, writes=1, dtype=dtype, streaming=True),
    ]
    if deployment.cut.attention != "standard":
        ops.append(
            AttentionTraining(
                batch=1, queries=1024, keys=1024, heads=8, kv_heads=8, qk_dim=128, v_dim=128, dtype=dtype,
                implementation=deployment.cut.attention,
            )
        )  # fmt: skip
    grades = {"operators": _worst(device.kernel(op).grade for op in ops)}
    experts = deployment.pricer.prices.expert_links
    fabrics = (
        deployment.tensor_fabric,
        deployment.data_fabric,
        deployment.pipeline_fabric,
        None if experts is None else experts.fabric,
    )
    if links := [_grade(one) for one in fabrics if one is not None]:
        grades["links"] = _worst(links)
    grades["software"] = deployment.framework.source["default"].grade
    return grades


def _grade(fabric: AnyFabric) -> str:
    if isinstance(fabric, HierarchicalFabric):
        return _worst([fabric.inner.source.grade, fabric.outer.source.grade])
    return fabric.source.grade


def _worst(grades: Iterable[str]) -> str:
    return max(grades, key=GRADES.index)
