"""Keys of a plan that the model or another key leaves without effect, which is refused: it is surely a mistake.

What a size of the layout leaves without effect is but noted (`unused_keys`).
"""

from __future__ import annotations

from typing import Any

from hardware_models.errors import ImpossibleError
from hardware_models.training_framework import TrainingFramework
from policies.parallelism import SHARDING
from sim.policy_choice import make_policy
from sim.training_scenario import TrainingScenario, TrainingSection
from workloads.models.architecture import ModelArchitecture, MoeMlp
from workloads.training.attention import STANDARD

OF_EXPERTS = (
    "expert_tensor_parallel_size", "moe_token_dispatcher_type", "moe_load_imbalance",
    "overlap_moe_expert_parallel_comm",
)  # fmt: skip
GATHER, REDUCE = "sharding.overlap_param_gather", "sharding.overlap_grad_reduce"
GATHERING = (1, 2)  # ZeRO stages that gather updated weights once a step


def given(training: TrainingSection, key: str) -> bool:
    """Does it say something that its absence would not? key: of [training], or of a policy there, behind a dot."""
    name, _, inner = key.partition(".")
    value: Any = getattr(training, name)
    if inner:
        return value.keys.get(inner) is not None
    return value is not None and value != type(training).model_fields[name].default


def refuse_contradictions(
    scenario: TrainingScenario, architecture: ModelArchitecture, framework: TrainingFramework
) -> None:
    """Raise ImpossibleError, in one sentence that says which key and why."""
    training = scenario.training
    if not any(isinstance(group.mlp, MoeMlp) for group in architecture.groups):
        for key in OF_EXPERTS:
            if given(training, key):
                value = str(getattr(training, key)).lower()
                raise ImpossibleError(
                    f"training.{key} = {value}: {architecture.name} has no experts; leave it out, or take a mixture of"
                    " experts"
                )
    attention = training.attention or framework.attention
    if training.fused_softmax is not None and attention != STANDARD:
        raise ImpossibleError(
            f"training.fused_softmax = {str(training.fused_softmax).lower()}: attention '{attention}' is one kernel"
            f' with the softmax in it; leave it out, or set training.attention = "{STANDARD}"'
        )
    _refuse_overlaps(training)


def _refuse_overlaps(training: TrainingSection) -> None:
    """Of exchanges between copies, those that the sharding has not, or always has, beside passes."""
    name = training.sharding.name
    zero = make_policy("training.sharding", training.sharding, SHARDING, {}).stage
    if given(training, GATHER) and zero not in GATHERING:
        why = "leaves weights whole" if zero == 0 else "gathers weights before passes, as prefetch_layers says"
        raise ImpossibleError(f"training.{GATHER}: '{name}' {why}; leave it out, or take zero1 or zero2")
    if zero not in (0, *GATHERING) and training.sharding.keys.get("overlap_grad_reduce") is False:
        raise ImpossibleError(
            f"training.{REDUCE} = false: '{name}' shares out each layer's gradients beside the backward; leave it out,"
            " or take zero2"
        )
