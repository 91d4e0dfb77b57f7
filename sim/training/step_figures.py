"""The figures that steps of any kind have: rates, how well GPUs are used, memory, joules and money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hardware_models import catalog
from sim.training.energy_account import step_account
from sim.training.simulate import TrainingRun
from sim.training.step_power import StepPower
from sim.training.work_done import model_flop_per_token


@dataclass(frozen=True, slots=True)
class StepUse:
    """What a kind of step reads off its own run; fractions are of the step."""

    hardware_flop_per_s: float  # of a GPU: what is computed again counts, as HFU has it
    bubble_fraction: float
    bound_by: dict[str, float]
    exposed: dict[str, float]
    memory: dict[str, Any]


def model_flop_per_s(run: TrainingRun) -> float:
    """Of a GPU: what the model asks for, as MFU counts it."""
    deployment, layout = run.deployment, run.deployment.layout
    seq_length = deployment.scenario.training.seq_length
    per_token = model_flop_per_token(deployment.architecture, seq_length, deployment.vocabulary)
    return layout.global_batch * seq_length * per_token / run.step_s / layout.gpus


def step_figures(run: TrainingRun, use: StepUse) -> dict[str, Any]:
    """Entries of a summary from "kind" to "power"; seconds, bytes, joules, shares of one."""
    deployment = run.deployment
    scenario, layout, step_s = deployment.scenario, deployment.layout, run.step_s
    tokens = layout.global_batch * scenario.training.seq_length
    peak = deployment.gpu.peak_flop_per_s[deployment.cut.dtype]
    rate = model_flop_per_s(run)
    power = StepPower.of(run)
    spent_j = power.parts_j
    energy_j = sum(spent_j.values())
    price = catalog.list_price_usd_per_gpu_h(deployment.gpu)
    usd_per_s = None if price is None else price * deployment.cluster_gpus / 3600.0
    return {
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
        "hfu": use.hardware_flop_per_s / peak,
        "clock_fraction": deployment.clock,
        "pipeline_bubble_fraction": use.bubble_fraction,
        "bound_by": use.bound_by,
        "exposed": use.exposed,
        "memory": use.memory,
        "energy_j_per_step": energy_j,
        "energy_j_per_token": energy_j / tokens,
        "mean_power_w_per_gpu": energy_j / step_s / layout.gpus,
        "usd_per_gpu_h": price,
        "usd_per_billion_tokens": None if usd_per_s is None else usd_per_s * step_s / tokens * 1e9,
        "energy": step_account(deployment, spent_j, power.cluster.mean_w, step_s, tokens),
        "power": power.entry(),
    }


def memory_figures(run: TrainingRun, *, fits: bool, verdict: str) -> dict[str, Any]:
    """Entry "memory" of a summary, of the GPU that gets fullest; verdict: what a reader is told."""
    use = run.memory
    worst = use.peaks[use.worst]
    return {
        "fits": fits,
        "peak_bytes": worst.used_bytes,
        "budget_bytes": use.budget_bytes,
        "device_bytes": float(run.deployment.gpu.memory_bytes),
        "host_peak_bytes": use.host_bytes,
        "stage": use.worst,
        "at_s": worst.t_s,
        "owners": worst.owners,
        "stage_peak_bytes": [peak.used_bytes for peak in use.peaks],
        "verdict": verdict,
    }
