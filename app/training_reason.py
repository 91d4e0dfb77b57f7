"""Why one training step is shorter than another: seconds of the step by what took them, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim.metrics import plain
from sim.training.reasons import WORDS

TRAINING_BOUND_BY = tuple(WORDS)
NAMED = 3  # causes
LEAST = 0.005  # of the time before, which is worth a word


def training_reason(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What moved most of the time, in a sentence, and the bottleneck.

    Steps of as many tokens on as many GPUs are set against each other in seconds, others in GPU-seconds a million
    tokens. Shares of the time sum to all of it, so that what they moved sums to the change.
    """
    alike = before["gpus"] == after["gpus"] and same_tokens(before, after)
    unit = "s" if alike else "GPU-seconds"
    spent = [_spent(summary, 1.0 if alike else _gpu_s_per_step_s(summary)) for summary in (before, after)]
    total = [sum(one.values()) for one in spent]
    moved = {key: spent[1][key] - spent[0][key] for key in WORDS}
    change = total[1] - total[0]
    named = sorted((key for key in WORDS if abs(moved[key]) >= LEAST * total[0]), key=lambda key: -abs(moved[key]))
    if not named:
        return f"nothing moved by more than {LEAST:.1%} of the time. {after['bottleneck']}"
    what = "the step takes" if alike else "a million tokens take"
    direction = "more" if change > 0 else "less"
    parts = ", ".join(f"{WORDS[key]} {'+' if moved[key] > 0 else '-'}{plain(abs(moved[key]))}" for key in named[:NAMED])
    return f"{what} {plain(abs(change))} {unit} {direction} ({change / total[0]:+.1%}): {parts}. {after['bottleneck']}"


def _spent(summary: Mapping[str, Any], factor: float) -> dict[str, float]:
    return {key: summary["bound_by"][key] * summary["step_s"] * factor for key in WORDS}


def _gpu_s_per_step_s(summary: Mapping[str, Any]) -> float:
    """GPU-seconds a million tokens that a second of the step is."""
    return float(summary["gpus"] / _tokens(summary) * 1e6)


def same_tokens(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Do both steps train as many tokens?"""
    return abs(_tokens(before) / _tokens(after) - 1.0) < 1e-6


def _tokens(summary: Mapping[str, Any]) -> float:
    """Of a step."""
    return float(summary["tokens_per_s"] * summary["step_s"])
