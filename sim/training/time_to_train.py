"""Days and cost of a whole training: its steps at each batch size, each as long as one simulated step."""

from __future__ import annotations

from typing import Any

import numpy as np

from hardware_models.errors import ImpossibleError
from policies.parallelism.batch_size import KEY, BatchRamp, Phase, TrainingGoal, phases
from sim.training.energy_account import whole_account
from sim.training.simulate import simulate_training
from sim.training_scenario import TrainingScenario

DAY_S = 86_400.0
KNOTS = 8  # batch sizes of a ramp that are simulated at most; steps of those between are interpolated


def time_to_train(scenario: TrainingScenario, summary: dict[str, Any]) -> dict[str, Any] | None:
    """Figures of the whole training, with the summary's of a step at the full batch; None where no goal is given.

    Raises ImpossibleError for a ramp that cannot be.
    """
    training = scenario.training
    if training.train_tokens is None:
        return None
    goal = TrainingGoal(minimum_tokens=training.train_tokens, critical_batch_tokens=training.critical_batch_tokens)
    ramp = None
    if training.rampup_batch_size is not None:
        ramp = BatchRamp(*training.rampup_batch_size)
        ramp.check(training.global_batch_size, training.micro_batch_size * summary["data_parallel_size"])
    plan = phases(goal, training.global_batch_size, training.seq_length, ramp)
    seconds = _step_seconds(scenario, [one.batch for one in plan], summary["step_s"])
    steps = sum(one.steps for one in plan)
    total_s = sum(one.steps * seconds[one.batch] for one in plan) + _saving_s(summary, steps)
    tokens = sum(one.steps * one.batch for one in plan) * training.seq_length
    price = summary["usd_per_gpu_h"]
    low, high = (end / summary["step_s"] for end in summary["interval_90"]["step_s"])
    return {
        "tokens": tokens,
        "steps": steps,
        "days": total_s / DAY_S,
        "days_interval_90": [total_s / DAY_S * low, total_s / DAY_S * high],
        "gpu_hours": total_s / 3600.0 * summary["cluster_gpus"],
        "usd": None if price is None else total_s / 3600.0 * summary["cluster_gpus"] * price,
        "energy_j": _energy_j(plan, seconds, summary),
        "energy": whole_account(scenario, summary, total_s),
        "minimum_tokens": goal.minimum_tokens,
        "minimum_steps": goal.minimum_steps,
        "worth_of_a_token": goal.worth(training.global_batch_size * training.seq_length),
    }


def _step_seconds(scenario: TrainingScenario, batches: list[int], full_s: float) -> dict[int, float]:
    """Seconds of a step by its batch size in sequences."""
    full = scenario.training.global_batch_size
    sizes = sorted(set(batches) - {full})
    knots = sizes if len(sizes) <= KNOTS else [sizes[round(at)] for at in np.linspace(0, len(sizes) - 1, KNOTS)]
    known = [_ramp_step_s(scenario, size) for size in knots]
    xs, ys = [*knots, full], [*known, full_s]
    return {size: float(np.interp(size, xs, ys)) for size in (*sizes, full)}


def _ramp_step_s(scenario: TrainingScenario, batch: int) -> float:
    """Of one batch size of a ramp; raises ImpossibleError naming the ramp where the plan cannot run it."""
    try:
        return simulate_training(_with_batch(scenario, batch)).step_s
    except ImpossibleError as error:
        ramp = scenario.training.rampup_batch_size
        raise ImpossibleError(f"{KEY} = {ramp}: of its steps, {batch} sequences cannot be run: {error}") from None


def _saving_s(summary: dict[str, Any], steps: float) -> float:
    """What checkpoints add."""
    saving = summary.get("checkpoint")
    return 0.0 if saving is None else steps / saving["every"] * float(saving["blocked_s"])


def _with_batch(scenario: TrainingScenario, batch: int) -> TrainingScenario:
    training = scenario.training.model_copy(update={"global_batch_size": batch})
    return scenario.model_copy(update={"training": training})


def _energy_j(plan: list[Phase], seconds: dict[int, float], summary: dict[str, Any]) -> float:
    """At the mean power of a step at the full batch."""
    total_s = sum(one.steps * seconds[one.batch] for one in plan)
    return float(total_s * summary["mean_power_w_per_gpu"] * summary["gpus"])


def sentence(whole: dict[str, Any]) -> str:
    """What a reader is told of it."""
    low, high = whole["days_interval_90"]
    text = (
        f"the whole training takes {whole['days']:.3g} days ({low:.3g} to {high:.3g}) and"
        f" {whole['gpu_hours']:,.0f} GPU-hours: {whole['steps']:,.0f} steps, {whole['tokens']:.3g} tokens"
    )
    if whole["minimum_steps"]:
        text += (
            f", of which a small batch would need {whole['minimum_tokens']:.3g}; a token of this batch is worth"
            f" {whole['worth_of_a_token']:.0%} of one of a small batch"
        )
    return text if whole["usd"] is None else f"{text}; {whole['usd']:,.0f} USD"
