"""The largest model that a machine trains: layers of the scenario's width are added as long as every tier has room."""

from __future__ import annotations

from dataclasses import dataclass

from policies.offload import TierError
from sim.offload.deployment import OffloadDeployment

MOST_LAYERS = 1 << 12  # that are tried: more than any model has


@dataclass(frozen=True, slots=True)
class Trainable:
    """How large, and which tier is in the way of more; 0 layers: not even one fits."""

    layers: int
    parameters: float
    tier: str


def largest_trainable(plan: OffloadDeployment, more_than: int = 0) -> Trainable:
    """By bisection over layers, at the scenario's micro-batch; what a step needs grows with them.

    more_than: layers that something else trains; 0 layers where this does not train more.
    """
    if more_than and (more_than >= MOST_LAYERS or _short(plan, more_than + 1)):
        return Trainable(0, 0.0, _short(plan, more_than + 1) or "none")
    fits, short = 0, MOST_LAYERS + 1
    layers = min(MOST_LAYERS, 2 * plan.training.architecture.num_layers)
    while short - fits > 1:
        if _short(plan, layers) is None:
            fits = layers
            layers = min(MOST_LAYERS, 2 * layers) if short > MOST_LAYERS else (fits + short) // 2
            if fits == MOST_LAYERS:
                break
        else:
            short = layers
            layers = (fits + short) // 2
    tier = _short(plan, fits + 1) or "none"
    return Trainable(fits, plan.work.deeper(fits).parameters if fits else 0.0, tier)


def _short(plan: OffloadDeployment, layers: int) -> str | None:
    """The tier that such a model lacks."""
    try:
        plan.policy.needs(plan.work.deeper(layers), plan.machine).check(plan.machine)
    except TierError as error:
        return error.tier
    return None
