"""How much longer a step may take because a model sends more rows to some experts than to others.

A step is priced with experts drawn at random, as even as routing can be. Models in training are less even, and by how
much depends on model, data and progress; the error bar holds what a balancing loss has been seen to leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.models.architecture import MoeMlp
from workloads.training.expert_share import busiest_of_learned

if TYPE_CHECKING:
    from sim.training.deployment import TrainingDeployment


def routing_unsure_s(deployment: TrainingDeployment) -> float:
    """Seconds of all micro-batches of a mean stage that the busiest rank's rows add; none where the plan says how many
    those are (`training.moe_load_imbalance`), or where every rank has all experts.
    """
    layout, pricer = deployment.layout, deployment.pricer
    if layout.ep == 1 or deployment.scenario.training.moe_load_imbalance is not None:
        return 0.0
    layers_s = sum(
        group.count * pricer.expert_seconds(group) * (busiest_of_learned(group.mlp, layout.ep) - 1.0)
        for group in deployment.architecture.groups
        if isinstance(group.mlp, MoeMlp)
    )
    return layers_s / layout.pp * layout.micro_batches
