"""Figures of training that studies measure and a run's summary does not hold: of one layer, of memory by owner, and by
a paper's own formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hardware_models.errors import ImpossibleError
from sim.metrics import Metric
from sim.offload.simulate import simulate_offload
from sim.training import clock_figures
from sim.training.context_pricing import ContextPrices
from sim.training.data_parallel import Exchanges
from sim.training.deployment import deploy_training
from sim.training.memory import held_bytes
from sim.training.phases import PHASES, pair_seconds, phase_seconds
from sim.training.simulate import TrainingRun, simulate_training
from sim.training.stage import StageWork
from sim.training.summary import summarise
from sim.training.work_done import attention_flop_per_token, model_flop_per_token
from sim.training_scenario import TrainingScenario
from workloads.models.stages import LayerRange
from workloads.training.layer import layer_operators

STATE = ("weights", "gradients", "optimizer")
EXCHANGE = Metric(
    "gradient_exchange_bytes_per_s", "payload of an exchange of gradients over its time", "bytes/s", "GB/s", 1e-9, True
)
CONTEXT_STEPS = 4  # those that have a figure of their own


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
    hidden = attention_flop_per_token(deployment.architecture, length) / 2.0
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


def exchanged_s(scenario: TrainingScenario) -> float:
    """Seconds of a step in which copies of the model exchange, hidden or not."""
    summary = summarise(_run(scenario))
    return float(summary["step_s"] * summary["exposed"]["data_parallel_fraction"])


def context_step_s(index: int, scenario: TrainingScenario) -> float:
    """Seconds of one step of the first layer's attention, forward, over a sequence that ranks share: what it computes
    or what it sends, whichever is longer; NaN where there is no such step.
    """
    deployment = deploy_training(scenario)
    prices, groups = deployment.pricer.prices, deployment.architecture.groups
    if not isinstance(prices, ContextPrices):
        return math.nan
    operators = layer_operators(deployment.architecture, groups[0], deployment.cut, deployment.pricer.kernels)
    steps = [step for operator in operators for step in prices.forward_steps(operator)]
    return steps[index].seconds if index < len(steps) else math.nan


def gradient_exchange_bytes_per_s(scenario: TrainingScenario, payload_bytes: float) -> float:
    """Payload of each copy over the seconds in which copies of the model agree on it, alone: a benchmark's bandwidth
    by payload. Raises ImpossibleError where there is one copy.
    """
    exchanges = Exchanges(deploy_training(scenario))
    seconds = exchanges.reduce_s(payload_bytes / exchanges.gradient_width)
    if not seconds:
        raise ImpossibleError(f"cluster.nodes: one copy of the model exchanges nothing; no {EXCHANGE.key}")
    return payload_bytes / seconds


def _seconds(key: str, name: str) -> Metric:
    return Metric(key, name, "s", "ms", 1e3, False)


def _bytes(key: str, name: str) -> Metric:
    return Metric(key, name, "bytes", "GB", 1e-9, False)


def _share(key: str, name: str, value: Callable[[TrainingScenario], float]) -> StudyFigure:
    return StudyFigure(Metric(key, name, "", "%", 100.0, True), value)


CLOCK_FIGURES = (
    StudyFigure(_seconds("highest_clock_s", "an iteration at the highest clocks"), clock_figures.highest_clock_s),
    StudyFigure(
        Metric("highest_clock_j", "energy of an iteration at the highest clocks", "J", "kJ", 1e-3, False),
        clock_figures.highest_clock_j,
    ),
    _share("perseus_saved_fraction", "energy saved at no slowdown, Perseus", clock_figures.perseus_saved),
    _share("envpipe_saved_fraction", "energy saved at no slowdown, EnvPipe", clock_figures.envpipe_saved),
    *(
        _share(
            f"perseus_saved_fraction_beside_{slowdown}",
            f"energy saved beside a straggler {slowdown} times as long, Perseus",
            partial(clock_figures.perseus_saved_beside, slowdown),
        )
        for slowdown in clock_figures.STRAGGLERS
    ),
    *(
        _share(
            f"envpipe_saved_fraction_beside_{slowdown}",
            f"energy saved beside a straggler {slowdown} times as long, EnvPipe",
            partial(clock_figures.envpipe_saved_beside, slowdown),
        )
        for slowdown in clock_figures.STRAGGLERS
    ),
    *(
        _share(
            f"perseus_saved_fraction_at_{length}",
            f"energy saved by an iteration {length} times the shortest",
            partial(clock_figures.perseus_saved_at, length),
        )
        for length in clock_figures.LENGTHS
    ),
)
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
        *CLOCK_FIGURES,
        StudyFigure(_seconds("exchanged_s", "exchanges between copies"), exchanged_s),
        *(
            StudyFigure(
                _seconds(f"context_step_{index}_s", f"attention over a shared sequence, step {index}"),
                partial(context_step_s, index),
            )
            for index in range(CONTEXT_STEPS)
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
    scenario = scenario.model_copy(update={"training": training})
    return simulate_training(scenario) if scenario.offload is None else simulate_offload(scenario)
