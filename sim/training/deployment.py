"""A training scenario made concrete: who computes which stage, over which links, in how many seconds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from hardware_models import catalog
from hardware_models.collectives import AnyFabric
from hardware_models.device import Device
from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import ImpossibleError
from hardware_models.specs import GpuSpec, NodeSpec
from hardware_models.topology.groups import RankGroup
from hardware_models.training_framework import TrainingFramework
from policies.parallelism import (
    RECOMPUTE,
    SCHEDULES,
    SHARDING,
    Layout,
    PipelineSchedule,
    Sharding,
    check_layout,
)
from policies.parallelism.balance import balanced_split
from sim.policy_choice import make_policy
from sim.training.choices import chosen_framework, trained_model
from sim.training.contradictions import refuse_contradictions
from sim.training.expert_deployment import expert_sharding, expert_share, fp8_recipe, storage_dtype
from sim.training.expert_links import ExpertLinks
from sim.training.fabrics import layer_fabric, rank_fabric
from sim.training.layer_prices import operator_prices, stage_pricer
from sim.training.power_limit import PowerLimits, power_limits
from sim.training.stage import StagePricer, StageWork
from sim.training.vocabulary import stage_works
from sim.training_scenario import TrainingScenario, TrainingSection
from workloads.models.architecture import ModelArchitecture
from workloads.models.stages import LayerRange, split_layers
from workloads.training.context import CONTEXT
from workloads.training.cut import Cut


@dataclass(frozen=True, slots=True)
class TrainingDeployment:
    """Everything a step's graph is made of."""

    scenario: TrainingScenario
    architecture: ModelArchitecture
    node: NodeSpec
    gpu: GpuSpec
    framework: TrainingFramework
    layout: Layout
    schedule: PipelineSchedule
    sharding: Sharding
    cut: Cut
    stages: tuple[StageWork, ...]  # in the model's order
    stage_layers: tuple[int, ...]
    tensor_fabric: AnyFabric | None
    data_fabric: AnyFabric | None  # among copies of the model
    pipeline_fabric: AnyFabric | None  # between neighbouring stages
    send_bytes: float  # of activations, or of their gradients, a rank sends to the next stage
    cluster_gpus: int
    vocabulary: int  # rows of the token table, padded
    pricer: StagePricer
    expert_sharding: Sharding  # among copies of the same experts

    @property
    def overlap_grad_reduce(self) -> bool:
        """Do gradients go while the backward goes on?"""
        own = self.sharding.overlap_grad_reduce
        return self.framework.overlap_grad_reduce if own is None else own

    @property
    def overlap_param_gather(self) -> bool:
        """Are updated weights gathered while the next forward goes on?"""
        own = self.sharding.overlap_param_gather
        return self.framework.overlap_param_gather if own is None else own

    @property
    def gradient_reduce_dtype(self) -> str:
        """Of what copies exchange of their gradients."""
        own = self.scenario.training.grad_reduce_in_bf16
        return self.framework.gradient_reduce_dtype if own is None else "bf16" if own else "fp32"

    @property
    def clock(self) -> float:
        """Share of boost at which the power limit, or a lock, lets passes run."""
        return self.pricer.prices.clock

    @property
    def limits(self) -> PowerLimits:
        """Watts and clock that no GPU exceeds."""
        return power_limits(self.scenario.power, self.gpu)

    @property
    def overlap_p2p(self) -> bool:
        """Do sends between stages run beside the next pass?"""
        own = self.scenario.training.overlap_p2p_communication
        return self.framework.overlap_p2p if own is None else own

    @property
    def fp8_weights(self) -> bool:
        """Are weights gathered in fp8, and kept so beside the sharded fp32 ones?"""
        return self.cut.fp8 is not None and self.framework.fp8_param_gather

    @property
    def held_weight_bytes(self) -> float:
        """Of a parameter on a rank that computes with it: in fp8 as it is and turned, beside 16 bits where it is
        gathered in those.
        """
        width = bytes_per_element(self.cut.dtype)
        return width if self.cut.fp8 is None or self.fp8_weights else width + 2.0

    def micro_batches_on(self, device: int, stage: int) -> int:
        """How many micro-batches of a stage a device computes: all, but where they run through both ways."""
        pp, count = self.layout.pp, self.layout.micro_batches
        return sum(self.schedule.device_of(stage, pp, one) == device for one in range(count))

    @property
    def send_s(self) -> float:
        """Seconds of one send, and of making it whole again on every tensor-parallel rank that needs it so."""
        if self.pipeline_fabric is None:
            return 0.0
        seconds = float(self.pipeline_fabric.seconds("send_recv", self.send_bytes))
        if self.tensor_fabric is None or self.cut.sequence_parallel:
            return seconds
        return seconds + float(self.tensor_fabric.seconds("all_gather", self.send_bytes * self.cut.tp))

    @property
    def budget_bytes(self) -> float:
        """What tensors of one GPU may take: its memory less context and what the allocator cannot use."""
        usable = self.gpu.memory_bytes - self.framework.context_bytes
        return usable * (1.0 - self.framework.fragmentation)


def deploy_training(scenario: TrainingScenario, device: Device | None = None) -> TrainingDeployment:
    """Build it; raises ImpossibleError for a plan that cannot be, UnknownNameError for a name that no catalog has.

    device: the scenario's GPU, where one is at hand that keeps its prices.
    """
    training = scenario.training
    architecture = trained_model(scenario)
    node = catalog.node(scenario.cluster.node)
    gpu, framework = catalog.gpu(node.gpu), chosen_framework(training)
    schedule = make_policy("training.schedule", training.schedule, SCHEDULES, {})
    recompute = make_policy("training.recompute", training.recompute, RECOMPUTE, {})
    cluster_gpus = node.gpus * scenario.cluster.nodes
    layout = lay_out(scenario, cluster_gpus)
    ends = int(training.account_for_embedding_in_pipeline_split) + int(training.account_for_loss_in_pipeline_split)
    check_layout(layout, architecture, schedule, training.seq_length, ends=ends)
    refuse_contradictions(scenario, architecture, framework)
    experts = layer_fabric(scenario, node, layout, RankGroup(layout.etp, layout.ep), all_pairs=True)
    links = None if experts is None else ExpertLinks(experts)
    cut = _cut(training, architecture, layout, framework, gpu, links)
    tensor = layer_fabric(scenario, node, layout, RankGroup(1, layout.tp))
    prices = operator_prices(scenario, node, layout, tensor, framework, device or Device(gpu))
    prices.expert_links = links
    pricer = stage_pricer(scenario, architecture, cut, prices, schedule, recompute)
    parts = split_stages(scenario, pricer, schedule.stages(layout.pp))
    stages = stage_works(pricer, parts, schedule, layout.pp)
    tp, copies = layout.tp, layout.dp * layout.cp
    shared = make_policy("training.sharding", training.sharding, SHARDING, {})
    sharding = shared.placed(copies, max(1, node.gpus // tp))
    return TrainingDeployment(
        scenario, architecture, node, gpu, framework, layout, schedule, sharding, cut,
        stages, tuple(max(1, part.stop - part.start) for part in parts) + (1,) * (len(stages) - len(parts)),
        tensor, rank_fabric(scenario, node, copies, tp), rank_fabric(scenario, node, min(layout.pp, 2), tp * copies),
        _send_bytes(architecture, cut), cluster_gpus, pricer.vocabulary, pricer,
        sharding if layout.expert_copies == copies else expert_sharding(shared, layout, node),
    )  # fmt: skip


def _cut(
    training: TrainingSection,
    architecture: ModelArchitecture,
    layout: Layout,
    framework: TrainingFramework,
    gpu: GpuSpec,
    links: ExpertLinks | None,
) -> Cut:
    """What one rank has of a layer; links: those that experts' rows cross."""
    tp = layout.tp
    parallel = tp > 1 if training.sequence_parallel is None else training.sequence_parallel and tp > 1
    return Cut(
        micro_batch=layout.micro_batch,
        seq_length=training.seq_length,
        tp=tp,
        cp=layout.cp,
        context=make_policy("training.context_parallel", training.context_parallel, CONTEXT, {}),
        sequence_parallel=parallel,
        attention=training.attention or framework.attention,
        dtype=storage_dtype(training),
        fp8=fp8_recipe(training, framework, gpu),
        experts=expert_share(
            architecture,
            layout,
            framework,
            links,
            sequence_parallel=parallel,
            training=training,
        ),
        dropout=training.dropout,
    )


def split_stages(scenario: TrainingScenario, pricer: StagePricer, stages: int) -> list[LayerRange]:
    """Layers of each stage; raises ImpossibleError for a split that is none of this model over so many stages."""
    training, num_layers = scenario.training, pricer.architecture.num_layers
    if training.layers_per_stage == "balanced":
        sizes = balanced_split(pricer.layer_seconds(), stages, *pricer.end_seconds())
    elif training.layers_per_stage is not None:
        sizes = training.layers_per_stage
        if len(sizes) != stages or sum(sizes) != num_layers or min(sizes) < 0:
            raise ImpossibleError(
                f"training.layers_per_stage = {sizes}: {len(sizes)} stages of {sum(sizes)} layers; give {stages}"
                f" numbers that sum to {num_layers}"
            )
    else:
        first = int(training.account_for_embedding_in_pipeline_split)
        last = int(training.account_for_loss_in_pipeline_split)
        if not first and not last:
            return split_layers(num_layers, stages)
        each, left = divmod(num_layers + first + last, stages)
        if left or each < 1:
            key = "account_for_embedding_in_pipeline_split" if first else "account_for_loss_in_pipeline_split"
            raise ImpossibleError(
                f"training.{key}: {num_layers} layers of the model and"
                f" {first + last} for its ends are no multiple of {stages} stages; change pipeline_parallel_size or the"
                " schedule's chunks"
            )
        sizes = [each] * stages
        sizes[0] -= first
        sizes[-1] -= last
    ends = list(accumulate(sizes))
    return [LayerRange(end - size, end, num_layers) for end, size in zip(ends, sizes, strict=True)]


def lay_out(scenario: TrainingScenario, cluster_gpus: int) -> Layout:
    """Ranks along each dimension; raises ImpossibleError where they do not make up the cluster."""
    training = scenario.training
    model_gpus = training.tensor_parallel_size * training.pipeline_parallel_size * training.context_parallel_size
    sizes = (
        f"tensor_parallel_size = {training.tensor_parallel_size} x pipeline_parallel_size ="
        f" {training.pipeline_parallel_size} x context_parallel_size = {training.context_parallel_size}"
    )
    copies = training.data_parallel_size or cluster_gpus // model_gpus
    if copies < 1 or copies * model_gpus > cluster_gpus:
        raise ImpossibleError(
            f"training.{sizes} need {model_gpus * max(copies, 1)} GPUs; cluster.nodes = {scenario.cluster.nodes} has"
            f" {cluster_gpus}"
        )
    if training.data_parallel_size is None and cluster_gpus % model_gpus:
        raise ImpossibleError(
            f"training.{sizes}: {model_gpus} does not divide the cluster's {cluster_gpus} GPUs; change one of them or"
            " give data_parallel_size"
        )
    return Layout(
        tp=training.tensor_parallel_size,
        pp=training.pipeline_parallel_size,
        dp=copies,
        cp=training.context_parallel_size,
        ep=training.expert_parallel_size,
        etp=training.expert_tensor_parallel_size or training.tensor_parallel_size,
        micro_batch=training.micro_batch_size,
        global_batch=training.global_batch_size,
    )


def _send_bytes(architecture: ModelArchitecture, cut: Cut) -> float:
    """Tensor-parallel ranks send a part each (Megatron-LM's scatter-gather, or sequence parallelism)."""
    return cut.tokens * architecture.hidden_size * bytes_per_element(cut.dtype) / cut.tp
