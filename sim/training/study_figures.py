"""Figures of training that studies measure and a run's summary does not hold: of one layer, of memory by owner, and by
a paper's own formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sim.metrics import Metric
from sim.training.deployment import deploy_training
from sim.training.memory import held_bytes
from sim.training.phases import PHASES, pair_seconds, phase_seconds
from sim.training.simulate import TrainingRun, simulate_training
from sim.training.stage import StageWork
from sim.training.work_done import attention_width, model_flop_per_token
from sim.training_scenario import TrainingScenario
from workloads.models.stages import LayerRange

STATE = ("weights", "gradients", "optimizer")


@dataclass(frozen=True, slots=True)
class StudyFigure:
    """One figure, and how it is shown."""

    metric: Metric
    value: Callable[[TrainingScenario], float]  # in the metric's own unit


def layer(scenario: TrainingScenario) -> StageWork:
    """The model's first layer on one rank, alone: no embedding, no head."""
    deployment = deploy_training(scenario)
    first = LayerRange(0, 1, deployment.architecture.num_layers)
    return deployment.pricer.stage(first, first=False, last=False)


def activation_bytes(scenario: TrainingScenario) -> float:
    """Kept for the backward at once, on a rank of the first pipeline stage when it is fullest."""
    return _run(scenario).memory.peaks[0].owners["activations"]


def state_bytes(scenario: TrainingScenario) -> float:
    """Weights, gradients and optimizer state of a rank of the first pipeline stage."""
    run = _run(scenario)
    held = held_bytes(run.deployment, run.exchanges, 0)
    return sum(held[owner] for owner in STATE)


def budget_fraction(scenario: TrainingScenario) -> float:
    """Peak of the fullest GPU over what its tensors may take: above 1 the plan runs out of memory."""
    memory = _run(scenario).memory
    return memory.peaks[memory.worst].used_bytes / memory.budget_bytes


def passing_bytes(scenario: TrainingScenario) -> float:
    """Peak of the GPU on which most comes and goes in a step, less what it holds all along."""
    run = _run(scenario)
    held = (sum(held_bytes(run.deployment, run.exchanges, device).values()) for device in range(len(run.memory.peaks)))
    return max(peak.used_bytes - all_along for peak, all_along in zip(run.memory.peaks, held, strict=True))


def causal_mfu(scenario: TrainingScenario) -> float:
    """MFU that leaves out the half of attention's arithmetic that a causal mask hides."""
    run = _run(scenario)
    deployment, layout, length = run.deployment, run.deployment.layout, scenario.training.seq_length
    whole = model_flop_per_token(deployment.architecture, length, deployment.vocabulary)
    groups = deployment.architecture.groups
    hidden = 3.0 * length * sum(group.count * attention_width(group.attention) for group in groups)
    rate = layout.global_batch * length * (whole - hidden) / run.step_s / layout.gpus
    return rate / deployment.gpu.peak_flop_per_s[deployment.cut.dtype]


def megatron_flop_per_s(scenario: TrainingScenario) -> float:
    """Megatron-LM's own formula over the step: 96 B s l h^2 (1 + s / 6h + V / 16lh), a forward computed again counted
    for every layer, whether it is or not (arXiv 2104.04473, equation 3).
    """
    run = _run(scenario)
    model, layout, training = run.deployment.architecture, run.deployment.layout, scenario.training
    s, width, layers = float(training.seq_length), float(model.hidden_size), float(model.num_layers)
    more = 1.0 + s / (6.0 * width) + model.vocab_size / (16.0 * layers * width)
    return 96.0 * layout.global_batch * s * layers * width * width * more / run.step_s / layout.gpus


def phase_s(phase: str, scenario: TrainingScenario) -> float:
    """Seconds of a step that one of `sim.training.phases.PHASES` takes."""
    return phase_seconds(_run(scenario))[phase]


def _seconds(key: str, name: str) -> Metric:
    return Metric(key, name, "s", "ms", 1e3, False)


def _bytes(key: str, name: str) -> Metric:
    return Metric(key, name, "bytes", "GB", 1e-9, False)


TRAINING_FIGURES: dict[str, StudyFigure] = {
    figure.metric.key: figure
    for figure in (
        StudyFigure(
            _seconds("layer_forward_s", "forward of one layer"), lambda scenario: layer(scenario).forward.seconds
        ),
        StudyFigure(
            _seconds("layer_backward_s", "backward of one layer"), lambda scenario: layer(scenario).backward.seconds
        ),
        StudyFigure(_bytes("activation_bytes", "activations of the first stage"), activation_bytes),
        StudyFigure(_bytes("passing_bytes", "memory that comes and goes in a step"), passing_bytes),
        StudyFigure(Metric("causal_mfu", "MFU, a causal mask left out", "", "%", 100.0, True), causal_mfu),
        StudyFigure(_bytes("state_bytes", "weights, gradients and optimizer of the first stage"), state_bytes),
        StudyFigure(
            Metric("memory_budget_fraction", "peak memory over what tensors may take", "", "%", 100.0, False),
            budget_fraction,
        ),
        StudyFigure(
            Metric(
                "megatron_flop_per_s_per_gpu", "arithmetic by Megatron-LM's formula", "FLOP/s", "TFLOP/s", 1e-12, True
            ),
            megatron_flop_per_s,
        ),
        *(
            StudyFigure(_seconds(f"phase_{phase}_s", f"of a step, {phase}"), partial(phase_s, phase))
            for phase in PHASES
        ),
        StudyFigure(
            _seconds("pair_s", "a forward and a backward in a pair"),
            lambda scenario: pair_seconds(deploy_training(scenario)),
        ),
    )
}


def _run(scenario: TrainingScenario) -> TrainingRun:
    """A step, whether it fits or not."""
    training = scenario.training.model_copy(update={"check_memory": False})
    return simulate_training(scenario.model_copy(update={"training": training}))
