"""How sure a difference of two steps is: errors of what both rest on are the same in both, and cancel.

A factor (`pricing.FACTORS`) errs alike in all that rests on one calibration: the same kernels of the same GPU, the same
links, the same software. One standard deviation of it moves a step by its part; of the logarithm of a ratio of two
steps only what it moves one more than the other is left. Factors that rest on two calibrations err independently.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, hypot
from typing import TYPE_CHECKING, Any

from hardware_models.intervals import NORMAL_90
from sim.training.pricing import FACTORS

if TYPE_CHECKING:
    from sim.training.simulate import TrainingRun

KEY = "calibrations"  # of a summary


def calibrations(run: TrainingRun) -> dict[str, str]:
    """What each factor's error belongs to; equal texts: the same error."""
    deployment = run.deployment
    gpu, cut = deployment.gpu.name, deployment.cut
    network = deployment.scenario.cluster.network or "its own network"
    own = (
        f"{gpu} {cut.dtype if cut.fp8 is None else 'fp8'}",
        f"{gpu} {cut.attention}",
        gpu,
        f"{deployment.node.name} {network}",
        deployment.framework.name,
        deployment.architecture.name,
    )
    return dict(zip(FACTORS, own, strict=True))


def shared_factors(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of factors that err alike in both, of those that move either; before, after: summaries."""
    own, other = before.get(KEY, {}), after.get(KEY, {})
    return [
        name
        for name, calibration in own.items()
        if other.get(name) == calibration and (before["unsure"][name] or after["unsure"][name])
    ]


def change_sigma(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """One standard deviation of the logarithm of the ratio of their steps, and of all that follows from a step."""
    shared = set(shared_factors(before, after))
    parts: list[float] = []
    for name in before["unsure"]:
        one, other = (summary["unsure"][name] / summary["step_s"] for summary in (before, after))
        parts += [other - one] if name in shared else [one, other]
    return hypot(*parts)


def change_interval(before: Mapping[str, Any], after: Mapping[str, Any], ratio: float) -> tuple[float, float]:
    """The central 90 % of a ratio of figures that follow from the steps."""
    width = exp(NORMAL_90 * change_sigma(before, after))
    return ratio / width, ratio * width
