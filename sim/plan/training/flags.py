"""The flags of Megatron-LM's training scripts that launch a plan, and what they cannot say."""

from __future__ import annotations

from collections.abc import Sequence

from sim.plan.training.plan import SPLITS, TrainingPlan
from sim.training.deployment import TrainingDeployment, split_stages
from workloads.models.stages import LayerRange

RECOMPUTE = {
    "none": [],
    "selective": ["--recompute-activations"],
    "full": ["--recompute-granularity full", "--recompute-method uniform", "--recompute-num-layers 1"],
}
SHARDING = {
    "none": [],
    "zero1": ["--use-distributed-optimizer"],
    "zero2": ["--use-megatron-fsdp", "--data-parallel-sharding-strategy optim_grads", "--use-distributed-optimizer"],
    "zero3": [
        "--use-megatron-fsdp", "--data-parallel-sharding-strategy optim_grads_params", "--use-distributed-optimizer",
    ],
}  # fmt: skip
SHARDING["fsdp"] = SHARDING["zero3"]
MEGATRON_FSDP = ("zero2", "zero3", "fsdp")


def megatron_flags(plan: TrainingPlan, deployment: TrainingDeployment) -> tuple[list[str], list[str]]:
    """Flags, a string each with its value, and sentences on what no flag says."""
    training, layout = deployment.scenario.training, deployment.layout
    flags = [
        f"--tensor-model-parallel-size {plan.tp}",
        f"--pipeline-model-parallel-size {plan.pp}",
        *([f"--context-parallel-size {plan.cp}"] if plan.cp > 1 else []),
        *([f"--expert-model-parallel-size {plan.ep}"] if plan.ep > 1 else []),
        f"--micro-batch-size {plan.micro_batch}",
        f"--global-batch-size {layout.global_batch}",
        f"--seq-length {training.seq_length}",
        *([f"--mtp-num-layers {training.mtp_num_layers}"] if training.mtp_num_layers else []),
        *(["--sequence-parallel"] if plan.sequence_parallel else []),
    ]
    notes: list[str] = []
    _stages(plan, deployment, flags, notes)
    _recompute(plan, flags, notes)
    flags += SHARDING.get(plan.sharding.name, [])
    if plan.sharding.name in MEGATRON_FSDP:
        notes.append(
            f"{plan.sharding.name} is Megatron-FSDP's (Megatron Core 0.14 or later): check that your version runs it"
            f" with {plan.pp} pipeline stages"
        )
    elif plan.sharding.name not in SHARDING:
        notes.append(f"no flag of Megatron-LM shards as '{plan.sharding}' does")
    _overlaps(plan, deployment, flags)
    flags.append(f"--{training.precision}" if training.precision != "fp8" else "--bf16 --fp8-format hybrid")
    if training.optimizer.name != "adam":
        notes.append(f"no flag of Megatron-LM asks for the optimizer '{training.optimizer.name}'")
    if plan.used_gpus < plan.gpus:
        notes.append(f"launch it on {plan.used_gpus:,} of the {plan.gpus:,} GPUs")
    return flags, notes


def _stages(plan: TrainingPlan, deployment: TrainingDeployment, flags: list[str], notes: list[str]) -> None:
    """The schedule, and how layers are split."""
    layers, stages = deployment.architecture.num_layers, len(deployment.stage_layers)
    split = split_stages(deployment.scenario, deployment.pricer, deployment.schedule.stages(deployment.layout.pp))
    first, last = SPLITS.get(plan.split or "even", (False, False))
    counted = first or last
    uneven = not counted and len({part.stop - part.start for part in split}) > 1
    if plan.schedule.name == "interleaved_1f1b" and not uneven:  # else the layout says how many chunks
        flags.insert(2, f"--num-layers-per-virtual-pipeline-stage {(layers + first + last) // stages}")
    elif plan.schedule.name not in ("1f1b", "interleaved_1f1b", "none"):
        notes.append(f"no flag of Megatron-LM asks for the schedule '{plan.schedule}'")
    flags += ["--account-for-embedding-in-pipeline-split"] if first else []
    flags += ["--account-for-loss-in-pipeline-split"] if last else []
    if uneven:
        flags.append(f'--pipeline-model-parallel-layout "{pipeline_layout(split)}"')
        counts = ", ".join(str(part.stop - part.start) for part in split)
        notes.append(
            f"stages hold {counts} layers, in the model's order; --pipeline-model-parallel-layout needs Megatron Core"
            " 0.13 or later, and takes the place of flags on layers a stage"
        )


def pipeline_layout(split: Sequence[LayerRange]) -> str:
    """Stages in the model's order, as Megatron Core writes them: E is the embedding, t a layer, L the loss."""
    stages = [f"t*{part.stop - part.start}" if part.stop > part.start else "" for part in split]
    stages[0] = ",".join(part for part in ("E", stages[0]) if part)
    stages[-1] = ",".join(part for part in (stages[-1], "L") if part)
    return "|".join(stages)


def _recompute(plan: TrainingPlan, flags: list[str], notes: list[str]) -> None:
    keys = dict(plan.recompute.keys)
    if plan.recompute.name == "full" and keys.get("num_layers") is not None:
        flags += ["--recompute-granularity full", "--recompute-method block"]
        flags.append(f"--recompute-num-layers {keys['num_layers']}")
    elif plan.recompute.name in RECOMPUTE and not keys:
        flags += RECOMPUTE[plan.recompute.name]
    else:
        notes.append(f"no flag of Megatron-LM computes again what '{plan.recompute}' does")


def _overlaps(plan: TrainingPlan, deployment: TrainingDeployment, flags: list[str]) -> None:
    if plan.dp * plan.cp > 1:
        flags += ["--overlap-grad-reduce"] if deployment.overlap_grad_reduce else []
        gathers = deployment.sharding.stage >= 1 and deployment.overlap_param_gather
        flags += ["--overlap-param-gather"] if gathers else []
    if plan.pp > 1 and plan.chunks > 1 and not deployment.overlap_p2p:
        flags.append("--no-overlap-p2p-communication")
    if plan.tp > 1 and plan.sequence_parallel and deployment.framework.overlap_tensor_parallel:
        flags.append("--tp-comm-overlap")
