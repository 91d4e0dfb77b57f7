"""How a training job is laid out over GPUs, and which layouts cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import PipelineSchedule
from workloads.models.architecture import AttentionSpec, DenseMlp, ModelArchitecture, MoeMlp

MAX_PASSES = 1_000_000  # of a step: more take minutes and gigabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Ranks along each dimension; tensor-parallel ranks are neighbours, pipeline stages the furthest apart
    (Megatron-LM's order: tp-cp-ep-dp-pp).
    """

    tp: int
    pp: int
    dp: int
    cp: int = 1
    ep: int = 1
    etp: int = 1  # ranks that share each expert's matrices: 1, or as many as tp
    micro_batch: int
    global_batch: int

    @property
    def gpus(self) -> int:
        """In use."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def expert_copies(self) -> int:
        """Ranks that hold the same experts."""
        return self.tp * self.cp * self.dp // (self.ep * self.etp)

    @property
    def micro_batches(self) -> int:
        """Of one rank in a step."""
        return self.global_batch // (self.micro_batch * self.dp)


def check_layout(
    layout: Layout, architecture: ModelArchitecture, schedule: PipelineSchedule, seq_length: int, *, ends: int = 0
) -> None:
    """Raise ImpossibleError, in one sentence, for a plan that cannot be; `ends` of the model count as a layer each."""
    where = "training"
    _check_batch(layout, where)
    _check_heads(layout, architecture, where)
    stages = schedule.stages(layout.pp)
    if stages > architecture.num_layers + ends:
        chunks = f" x {schedule.chunks} chunks" if schedule.chunks > 1 else ""
        raise ImpossibleError(
            f"{where}.pipeline_parallel_size = {layout.pp}{chunks}: more stages than the {architecture.num_layers}"
            f" layers of {architecture.name}; give at most {architecture.num_layers // schedule.chunks}"
        )
    if seq_length % (layout.cp * (layout.tp if layout.tp > 1 else 1)):
        raise ImpossibleError(
            f"{where}.seq_length = {seq_length}: is not divisible by context_parallel_size x tensor_parallel_size ="
            f" {layout.cp * layout.tp}; give a multiple"
        )
    schedule.check(layout.pp, layout.micro_batches, f"{where}.schedule")
    if (passes := 2 * stages * layout.micro_batches) > MAX_PASSES:
        raise ImpossibleError(
            f"{where}.global_batch_size = {layout.global_batch}: makes {passes:,} passes of micro-batches a step, more"
            f" than {MAX_PASSES:,}; a step goes on as it began, so ask for fewer"
        )


def _check_batch(layout: Layout, where: str) -> None:
    step = layout.micro_batch * layout.dp
    if layout.global_batch % step:
        raise ImpossibleError(
            f"{where}.global_batch_size = {layout.global_batch}: is not divisible by micro_batch_size ="
            f" {layout.micro_batch} x {layout.dp} data-parallel ranks; give a multiple of {step}"
        )


def _check_heads(layout: Layout, architecture: ModelArchitecture, where: str) -> None:
    for group in architecture.groups:
        heads = group.attention.heads
        kv_heads = group.attention.kv_heads if isinstance(group.attention, AttentionSpec) else heads
        if heads % layout.tp or (kv_heads % layout.tp and layout.tp % kv_heads):
            fits = ", ".join(
                str(n) for n in range(1, heads + 1) if heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0)
            )
            raise ImpossibleError(
                f"{where}.tensor_parallel_size = {layout.tp}: does not divide the {heads} attention heads"
                f" ({kv_heads} KV heads) of {architecture.name}; accepted: {fits}"
            )
        if isinstance(group.mlp, DenseMlp) and group.mlp.intermediate_size % layout.tp:
            raise ImpossibleError(
                f"{where}.tensor_parallel_size = {layout.tp}: does not divide the MLP's width"
                f" {group.mlp.intermediate_size} of {architecture.name}; give a divisor"
            )
    _check_experts(layout, architecture, where)


def _check_experts(layout: Layout, architecture: ModelArchitecture, where: str) -> None:
    mixtures = {group.mlp for group in architecture.groups if isinstance(group.mlp, MoeMlp)}
    for experts in {mixture.experts for mixture in mixtures} or {1}:
        if experts % layout.ep:
            raise ImpossibleError(
                f"{where}.expert_parallel_size = {layout.ep}: does not divide the {experts} expert"
                f"{'s' if experts > 1 else ''} of {architecture.name}; give a divisor"
            )
    if not mixtures:
        return
    if layout.etp not in (1, layout.tp):
        raise ImpossibleError(
            f"{where}.expert_tensor_parallel_size = {layout.etp}: give 1, or tensor_parallel_size = {layout.tp}"
        )
    ranks = layout.tp * layout.cp * layout.dp
    if ranks % (layout.ep * layout.etp):
        raise ImpossibleError(
            f"{where}.expert_parallel_size = {layout.ep}: with expert_tensor_parallel_size = {layout.etp} does not"
            f" divide the {ranks} ranks of a pipeline stage (tensor x context x data); give a divisor of"
            f" {ranks // layout.etp}"
        )
    for mixture in mixtures:
        for width, ranks in (
            (mixture.expert_intermediate_size, layout.etp),
            (mixture.shared_intermediate_size, layout.tp),
        ):
            if width % ranks:
                raise ImpossibleError(
                    f"{where}.tensor_parallel_size = {layout.tp}: does not divide the width {width} of experts of"
                    f" {architecture.name}; give a divisor, or expert_tensor_parallel_size = 1"
                )
