"""A training operator: what it computes forward and backward, what it exchanges, and what it keeps meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.ops import AttentionTraining, Collective, DeviceOp


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """The same kernel so many times on other operands: one product an expert."""

    op: DeviceOp
    count: float

    @property
    def flop(self) -> float:
        """Of all."""
        return float(self.op.flop) * self.count

    @property
    def moved_bytes(self) -> float:
        """Of all."""
        return float(self.op.moved_bytes) * self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertExchange(Collective):
    """An all-to-all among expert-parallel ranks.

    payload_bytes: all rows that a rank sends: one for each expert that a token visits, or, where the framework sends
    them once for each rank and server, for each rank. across_bytes: then of those for each server.
    """

    across_bytes: float | None = None


TrainingOp = DeviceOp | AttentionTraining | Repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextStep:
    """What ranks that share a sequence do at once: the slowest of their blocks counts, and the bytes each sends."""

    exchange: Collective | None = None  # before the blocks: nothing runs beside it
    blocks: tuple[tuple[TrainingOp, ...], ...] = ()  # one a shape that ranks compute, each a row of kernels
    sends_bytes: tuple[float, ...] = ()  # of a rank to others, beside the blocks


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
    fed_by: str = ""  # operator whose output it keeps, which need not be kept where that one is computed again
    forward_before: Collective | None = None
    forward_after: Collective | None = None
    backward_before: Collective | None = None
    beside_input: Collective | None = None
    beside_weight: Collective | None = None
    forward_steps: tuple[ContextStep, ...] = ()  # with context-parallel ranks
    backward_steps: tuple[ContextStep, ...] = ()
    host_waits: int = 0  # in its forward, times that the host waits for the device with nothing more queued
    working_bytes: float = 0.0  # for what context-parallel ranks send, while it computes
