"""How a training plan spreads experts over ranks, and in which format its matrix products are."""

from __future__ import annotations

from dataclasses import fields

from hardware_models.errors import ImpossibleError
from hardware_models.specs import GpuSpec, NodeSpec
from hardware_models.training_framework import TrainingFramework
from policies.parallelism import Layout, Sharding
from sim.training.expert_links import ExpertLinks
from sim.training_scenario import TrainingSection
from workloads.models.architecture import ModelArchitecture, MoeMlp
from workloads.training.expert_share import ExpertPasses, ExpertShare, busiest_of_random
from workloads.training.precision import FP8_RECIPES, Fp8Recipe


def expert_share(
    architecture: ModelArchitecture, layout: Layout, framework: TrainingFramework, links: ExpertLinks | None,
    *, sequence_parallel: bool, training: TrainingSection,
) -> ExpertShare:  # fmt: skip
    """One rank's; raises ImpossibleError where tensor-parallel ranks would send every row several times."""
    mixture = any(isinstance(group.mlp, MoeMlp) for group in architecture.groups)
    if mixture and layout.tp > 1 and not sequence_parallel:
        raise ImpossibleError(
            f"training.sequence_parallel = false: the {layout.tp} tensor-parallel ranks of {architecture.name} would"
            " each send all rows to the experts; leave it out, or set it to true"
        )
    dispatcher, kernels = training.moe_token_dispatcher_type, framework.experts
    once = kernels.once_per_server if dispatcher is None else dispatcher == "flex"
    chosen = {one.name: getattr(kernels, one.name) for one in fields(ExpertPasses)}
    return ExpertShare(
        ep=layout.ep,
        etp=layout.etp if mixture else 1,
        servers=1 if links is None else links.servers,
        once_per_server=links is not None and once,
        fp8_dispatch=kernels.fp8_dispatch,
        passes=ExpertPasses(**chosen),
        busiest=_busiest(architecture, layout, training),
    )


def _busiest(architecture: ModelArchitecture, layout: Layout, training: TrainingSection) -> float:
    """Rows of the busiest rank over the mean: as the plan says, or as even random routing leaves them."""
    said = training.moe_load_imbalance
    if said is not None:
        if said > layout.ep:
            raise ImpossibleError(
                f"training.moe_load_imbalance = {said:g}: of {layout.ep} expert-parallel ranks the busiest has at most"
                f" {layout.ep} times the mean; give a number from 1 to {layout.ep}, or leave it out"
            )
        return said
    tokens = layout.micro_batch * training.seq_length / (layout.tp * layout.cp) * layout.etp  # that share experts
    mixtures = [group.mlp for group in architecture.groups if isinstance(group.mlp, MoeMlp)]
    return max((busiest_of_random(mixture, tokens, layout.ep) for mixture in mixtures), default=1.0)


def expert_sharding(shared: Sharding, layout: Layout, node: NodeSpec) -> Sharding:
    """What copies of the same experts share out; where none of them share a server, all copies are neighbours."""
    in_server = node.gpus // (layout.etp * layout.ep)
    return shared.placed(layout.expert_copies, in_server if in_server > 1 else layout.expert_copies)


def fp8_recipe(training: TrainingSection, framework: TrainingFramework, gpu: GpuSpec) -> Fp8Recipe | None:
    """None where products are in 16 bits; raises ImpossibleError where the device has no fp8 arithmetic."""
    if training.precision != "fp8":
        if training.fp8_recipe is not None:
            raise ImpossibleError(
                f"training.fp8_recipe = '{training.fp8_recipe}': products are in {training.precision}; set"
                ' training.precision = "fp8", or leave it out'
            )
        return None
    if "fp8" not in gpu.peak_flop_per_s:
        known = ", ".join(one for one in ("bf16", "fp16") if one in gpu.peak_flop_per_s)
        raise ImpossibleError(f"training.precision = 'fp8': {gpu.name} has no fp8 arithmetic; give one of {known}")
    return FP8_RECIPES[training.fp8_recipe or framework.fp8_recipe]


def storage_dtype(training: TrainingSection) -> str:
    """Of activations and weights; products alone are in fp8."""
    return "bf16" if training.precision == "fp8" else training.precision
