"""A step of forwards alone, as zeroth-order training has it: what it computes, and what a forward holds meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from policies.offload.zo2 import SIGNS
from sim.training.deployment import TrainingDeployment
from sim.training.pricing import NOTHING
from workloads.training.operator import TrainingOperator

IN_AND_OUT = 2.0  # of the widest operator, both at once
ASKED = SIGNS / 3.0  # of the operations of a forward and a backward, which is as long as two of them


def forwards_alone(training: TrainingDeployment) -> TrainingDeployment:
    """The same, of which a step runs forward with both signs, and no backward."""
    stages = tuple(
        replace(
            stage,
            forward=stage.forward.times(SIGNS),
            backward_input=NOTHING,
            backward_weight=NOTHING,
            recompute=NOTHING,
        )
        for stage in training.stages
    )
    return replace(training, stages=stages)


def layer_bytes(operators: Sequence[TrainingOperator]) -> float:
    """Of a layer's forward, of which nothing is kept: what its widest operator is given and gives."""
    widest = (one.saved_bytes for one in operators if one.part in ("mlp", "matrix", "attention_core"))
    return IN_AND_OUT * max(widest, default=0.0)


def loss_bytes(operators: Sequence[TrainingOperator]) -> float:
    """Of the output's forward: logits, their copy for the loss, and what the loss makes of them."""
    return sum(one.output_bytes + (IN_AND_OUT * one.saved_bytes if one.part == "head" else 0.0) for one in operators)
