"""Why a step takes as long as it does, and what a reader must know to trust its figures, in sentences."""

from __future__ import annotations

from typing import Any

from hardware_models.specs import GpuSpec
from policies.parallelism.mapping import Mapping
from sim.training.power_smoothing import smoothing_of
from sim.training.simulate import TrainingRun
from sim.training.unused_keys import unused_keys
from workloads.models.architecture import MoeMlp

WORDS = {
    "compute_fraction": "arithmetic",
    "memory_fraction": "memory traffic",
    "launch_fraction": "kernel launches",
    "network_fraction": "tensor-, context- and expert-parallel exchanges",
    "host_fraction": "the host",
    "idle_fraction": "waiting",
}


def bottleneck(summary: dict[str, Any]) -> str:
    """The largest share of the step, the next, and what the waiting is for."""
    shares = sorted(summary["bound_by"].items(), key=lambda item: -item[1])
    first, second = shares[0], shares[1]
    text = f"{first[1]:.0%} of the step goes to {WORDS[first[0]]}, then {second[1]:.0%} to {WORDS[second[0]]}"
    idle = summary["bound_by"]["idle_fraction"]
    if idle < 0.02:
        return f"{text}."
    bubble, exposed = summary["pipeline_bubble_fraction"], summary["exposed"]
    waits = {
        "pipeline bubbles": bubble,
        "exchanges between copies": exposed["data_parallel_fraction"],
    }
    cause = max(waits, key=lambda name: waits[name])
    return f"{text}; GPUs wait {idle:.0%} of it, most for {cause}."


def mapping_sentence(mapping: Mapping) -> str:
    """Who placed the nodes, what that saves of sends and rings, and whether it is proved."""
    proved = "; no order saves more, proved for Pipette's closed form" if mapping.optimal else ""
    if mapping.by == "identity":
        return f"links are unequal, and nodes stand in their own order (node_mapping = identity){proved}"
    return (
        f"links are unequal: nodes stand as node_mapping = {mapping.by} says, where sends and rings take"
        f" {mapping.gain_fraction:.1%} fewer seconds than in the nodes' own order{proved}"
    )


def _what_disturbs(run: TrainingRun) -> str:
    """What makes a step longer than that of a cluster that is all alike."""
    training = run.deployment.scenario.training
    found = ["unequal links"] if run.mapping is not None else []
    filler = smoothing_of(run.deployment.scenario).longer_passes_fraction
    if filler:
        found.append(f"filler kernels, beside which passes take {filler:.1%} longer,")
    if training.jitter_fraction or training.slow_gpus or training.slow_cards:
        found.append("slow or varying GPUs and cards")
    return " and ".join(found)


def notes(run: TrainingRun, summary: dict[str, Any]) -> list[str]:
    """What must be known."""
    deployment = run.deployment
    said = []
    if run.mapping is not None:
        said.append(mapping_sentence(run.mapping))
    if run.step_s > run.undisturbed_s and (run.clocks is None or run.clocks.straggler == 1.0):
        more = run.step_s / run.undisturbed_s - 1.0
        said.append(
            f"{_what_disturbs(run)} make the step {more:.1%} longer than {run.undisturbed_s:.4g} s, which it"
            " would take if all were alike; the figures are those of the copy that keeps the others waiting"
        )
    said += idle_gpus_note(run)
    if not run.memory.fits:
        said.append(f"the plan does not fit: {run.memory.verdict()}")
    elif run.memory.peaks[run.memory.worst].used_bytes > 0.95 * run.memory.budget_bytes:
        said.append(f"memory is nearly full: {run.memory.verdict()}")
    if any(isinstance(group.mlp, MoeMlp) for group in deployment.architecture.groups):
        said.append(
            "published steps of mixtures of experts took up to 60 % longer than simulated ones, beyond the interval:"
            " what the host does for experts, and uneven routing, are not modelled"
        )
    sizes = set(deployment.stage_layers)
    if len(sizes) > 1:
        said.append(f"stages hold {min(sizes)} to {max(sizes)} layers: the others wait for the longest")
    return [*said, *no_price_note(deployment.gpu, summary["usd_per_gpu_h"]), *unused_keys(run)]


def idle_gpus_note(run: TrainingRun) -> list[str]:
    """That GPUs of the cluster have no part in the plan, where some have none."""
    idle = run.deployment.cluster_gpus - run.deployment.layout.gpus
    return [f"{idle} of {run.deployment.cluster_gpus} GPUs train nothing; they cost all the same"] if idle else []


def no_price_note(gpu: GpuSpec, usd: float | None) -> list[str]:
    """That no cost can be said, where none can."""
    return [f"{gpu.name} has no list price: no cost is given"] if usd is None else []
