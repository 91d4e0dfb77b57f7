"""A training scenario: what a user writes down of a model, a cluster and a plan to train it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sim.checkpoint_section import CheckpointSection
from sim.energy_section import EnergySection
from sim.offload_section import OffloadSection
from sim.scenario import ClusterSection
from sim.section import NamedScenario, PolicyChoice, RunName, Section
from sim.training_power_section import TrainingPowerSection


class TrainedModelSection(Section):
    """[model]: the network."""

    config: str = Field(min_length=1, description="network: a catalog name, or the path of a Hugging Face config.json")
    vocab_size: int | None = Field(default=None, ge=1, description="rows of the token table; absent: as in config")
    sliding_window: int | None = Field(
        default=None, ge=0, description="tokens before it that one sees in every layer, 0: all; absent: as in config"
    )
    parallel_block: bool | None = Field(
        default=None, description="attention and MLP of a layer read the same input; absent: as in config"
    )


class SlowLinks(Section):
    """Links between some nodes that are slower than the others."""

    nodes: list[int] = Field(min_length=1, description="one node: all its links; more: those between any two of them")
    slowdown: float = Field(ge=1, le=1e6, description="times as long")


class TrainedClusterSection(ClusterSection):
    """[cluster]: also how unequal its links are."""

    node_links: str | None = Field(
        default=None,
        min_length=1,
        description="bandwidths measured between node pairs: a catalog name, or the path of a file; absent: all alike",
    )
    slow_links: list[SlowLinks] = Field(default=[], description="nodes whose links are slower")


class Slow(Section):
    """Something of one stage's rank in one copy of the model that takes longer than the others'."""

    stage: int = Field(default=0, ge=0, description="pipeline stage, from 0")
    replica: int = Field(default=0, ge=0, description="copy of the model, from 0")
    slowdown: float = Field(ge=1, le=1e6, description="times as long")


class TrainingSection(Section):
    """[training]: a plan, in Megatron-LM's words."""

    framework: str = Field(default="megatron-core-0.8", description="training software, as a profile of what it does")
    seq_length: int = Field(default=4096, ge=1, le=100_000_000, description="tokens of a sequence")
    global_batch_size: int = Field(ge=1, le=100_000_000, description="sequences of a step, over all GPUs")
    micro_batch_size: int = Field(default=1, ge=1, le=1_000_000, description="sequences that a GPU computes at once")
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs that share each layer")
    pipeline_parallel_size: int = Field(default=1, ge=1, description="stages that the layers are split over")
    context_parallel_size: int = Field(default=1, ge=1, description="GPUs that share each sequence")
    context_parallel: PolicyChoice = Field(
        default=PolicyChoice(name="ring"), description="how those GPUs compute attention over the sequence they share"
    )
    expert_parallel_size: int = Field(default=1, ge=1, description="GPUs that share the experts of a layer")
    expert_tensor_parallel_size: int | None = Field(
        default=None, ge=1, description="GPUs that share each expert; absent: tensor_parallel_size"
    )
    data_parallel_size: int | None = Field(
        default=None, ge=1, description="copies of the model; absent: as many as the cluster's GPUs make"
    )
    sequence_parallel: bool | None = Field(
        default=None, description="norms and residuals divided over tensor-parallel GPUs; absent: where there are any"
    )
    schedule: PolicyChoice = Field(
        default=PolicyChoice(name="1f1b"), description="in what order stages run their micro-batches"
    )
    layers_per_stage: list[int] | Literal["balanced"] | None = Field(
        default=None,
        description='layers of each stage in the model\'s order, or "balanced": the slowest stage as fast as can be;'
        " absent: even",
    )
    account_for_embedding_in_pipeline_split: bool = Field(
        default=False, description="the embedding counts as a layer of the first stage"
    )
    account_for_loss_in_pipeline_split: bool = Field(
        default=False, description="the output projection counts as a layer of the last stage"
    )
    sharding: PolicyChoice = Field(
        default=PolicyChoice(name="zero1"), description="what copies of the model share out among them"
    )
    recompute: PolicyChoice = Field(
        default=PolicyChoice(name="none"), description="activations computed again: none, selective or full"
    )
    gradient_reduce: PolicyChoice = Field(
        default=PolicyChoice(name="nccl"), description="how copies of the model agree on gradients, or on weights"
    )
    grad_reduce_in_bf16: bool | None = Field(
        default=None, description="copies exchange gradients in bf16, not in fp32; absent: as the framework does"
    )
    moe_token_dispatcher_type: Literal["alltoall", "flex"] | None = Field(
        default=None,
        description="rows leave for each expert (alltoall), or server and rank (flex); absent: as the framework does",
    )
    moe_load_imbalance: float | None = Field(
        default=None,
        ge=1,
        le=1e3,
        description="rows of the busiest expert-parallel rank over the mean; absent: as random routing leaves them",
    )
    mtp_num_layers: int = Field(
        default=0, ge=0, le=100, description="layers of multi-token prediction, on the last stage after the others"
    )
    overlap_moe_expert_parallel_comm: bool = Field(
        default=False, description="exchanges among experts run beside another micro-batch, forward beside backward"
    )
    activation_offload: PolicyChoice = Field(
        default=PolicyChoice(name="none"), description="whose activations wait for their backward in the host's memory"
    )
    overlap_p2p_communication: bool | None = Field(
        default=None, description="sends between stages run beside the next pass; absent: as the framework does"
    )
    tp_comm_overlap: bool | None = Field(
        default=None,
        description="matrix products and the exchanges before or after them take turns in pieces; absent: as the"
        " framework does",
    )
    optimizer: PolicyChoice = Field(default=PolicyChoice(name="adam"), description="what updates the weights")
    attention: str | None = Field(default=None, description="attention kernel; absent: the framework's")
    precision: Literal["bf16", "fp16", "fp8"] = Field(default="bf16", description="number format of matrix products")
    fp8_recipe: Literal["delayed", "current", "blockwise"] | None = Field(
        default=None, description="scales of fp8 products; absent: as the framework does"
    )
    dropout: bool = Field(default=False, description="dropout on attention, embeddings and residuals")
    fused_norm: bool | None = Field(default=None, description="one kernel a norm; absent: as the framework does")
    fused_softmax: bool | None = Field(
        default=None, description="one kernel for standard attention's softmax; absent: as the framework does"
    )
    node_mapping: PolicyChoice = Field(
        default=PolicyChoice(name="identity"),
        description="which node stands where in the layout, on a cluster whose links are unequal",
    )
    jitter_fraction: float = Field(
        default=0.0, ge=0, le=1, description="how much passes vary: standard deviation of the logarithm of their times"
    )
    slow_gpus: list[Slow] = Field(default=[], description="GPUs that compute more slowly")
    slow_cards: list[Slow] = Field(default=[], description="GPUs whose network cards send more slowly")
    train_tokens: float | None = Field(
        default=None, gt=0, le=1e18, description="tokens of the whole training, at a batch far below the critical one"
    )
    critical_batch_tokens: float | None = Field(
        default=None, gt=0, le=1e15, description="gradient noise scale: a batch of it takes twice the tokens"
    )
    rampup_batch_size: list[int] | None = Field(
        default=None,
        min_length=3,
        max_length=3,
        description="batch at first, increments, and sequences until it is global_batch_size",
    )
    stage_profile: str | None = Field(
        default=None,
        min_length=1,
        description="what a stage's passes took and drew at each clock as measured, for figures of clocks chosen pass"
        " by pass, not for the step: a catalog name, or the path of a file; absent: as the hardware models have them",
    )
    check_memory: bool = Field(default=True, description="refuse a plan that does not fit; false: run it and say so")

    @field_validator(
        "schedule", "sharding", "recompute", "activation_offload", "context_parallel", "gradient_reduce",
        "node_mapping", "optimizer", mode="before",
    )  # fmt: skip
    @classmethod
    def _by_name(cls, choice: Any) -> Any:
        return {"name": choice} if isinstance(choice, str) else choice

    @model_validator(mode="after")
    def _layers_are_split_one_way(self) -> TrainingSection:
        accounted = self.account_for_embedding_in_pipeline_split or self.account_for_loss_in_pipeline_split
        if self.layers_per_stage is not None and accounted:
            raise ValueError(
                "'layers_per_stage' says all; leave out account_for_embedding_in_pipeline_split and"
                " account_for_loss_in_pipeline_split"
            )
        return self

    @model_validator(mode="after")
    def _time_to_train_has_a_goal(self) -> TrainingSection:
        for key in ("critical_batch_tokens", "rampup_batch_size"):
            if self.train_tokens is None and getattr(self, key) is not None:
                raise ValueError(f"'{key}' goes with 'train_tokens', which says how long the training is")
        return self


class TrainingScenario(NamedScenario):
    """Everything one simulated training step needs."""

    name: RunName = "training"
    model: TrainedModelSection
    cluster: TrainedClusterSection
    training: TrainingSection
    offload: OffloadSection | None = None
    checkpoint: CheckpointSection | None = None
    power: TrainingPowerSection | None = None
    energy: EnergySection | None = None
