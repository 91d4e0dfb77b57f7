"""A training operator: what it computes forward and backward, what it exchanges, and what it keeps meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.ops import AttentionTraining, Collective, DeviceOp

TrainingOp = DeviceOp | AttentionTraining


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOperator:
    """One operator of a layer on one rank for one micro-batch.

    Collectives are named by what they run beside: `*_before` and `*_after` stand alone on the rank's compute stream
    unless the framework splits them; `beside_input` and `beside_weight` depend on nothing that the gradient of the
    input, or of the weights, computes, so that they may overlap with it.
    """

    name: str
    part: str  # attention_core | attention | matrix | mlp | norm | residual | embedding | head
    forward: tuple[TrainingOp, ...] = ()
    backward_input: tuple[TrainingOp, ...] = ()
    backward_weight: tuple[TrainingOp, ...] = ()
    saved_bytes: float = 0.0  # kept from its forward to its backward
    output_bytes: float = 0.0  # of a product's output, and so of its gradient
    input_bytes: float = 0.0  # kept instead where it is computed again on its own
    forward_before: Collective | None = None
    forward_after: Collective | None = None
    backward_before: Collective | None = None
    beside_input: Collective | None = None
    beside_weight: Collective | None = None
