"""A scenario: what a user writes down. Frozen models of every section; unknown keys are mistakes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hardware_models.dtypes import BYTES_PER_ELEMENT
from hardware_models.errors import UnknownNameError
from sim.energy_section import EnergySection
from sim.power_section import PowerSection
from sim.section import NamedScenario, PolicyChoice, Section

MAX_TIME_S = 1e9  # 30 years; beyond, a float no longer tells microseconds apart


class ModelSection(Section):
    """[model]: the network and its number formats."""

    config: str = Field(min_length=1, description="network: a catalog name, or the path of a Hugging Face config.json")
    weight_dtype: str = Field(default="bf16", description="number format of the weights")
    activation_dtype: str | None = Field(
        default=None,
        description="what matrices are multiplied in; absent: fp8 with fp8 weights, else bf16 (fp16 with fp16 weights)",
    )
    kv_cache_dtype: str = Field(default="bf16", description="number format of the KV cache")

    @field_validator("weight_dtype", "activation_dtype", "kv_cache_dtype")
    @classmethod
    def _known(cls, dtype: str | None) -> str | None:
        if dtype is not None and dtype not in BYTES_PER_ELEMENT:
            raise ValueError(str(UnknownNameError("", dtype, BYTES_PER_ELEMENT)).removeprefix(": "))
        return dtype

    @property
    def compute_dtype(self) -> str:
        """What matrices are multiplied in."""
        if self.activation_dtype is not None:
            return self.activation_dtype
        return self.weight_dtype if self.weight_dtype in ("fp8", "fp16", "fp32", "int8") else "bf16"


class ClusterSection(Section):
    """[cluster]: which nodes, how many, and what joins them."""

    node: str = Field(min_length=1, description="server: a catalog name, or the path of a node file")
    nodes: int = Field(default=1, ge=1, le=1_000_000, description="servers")
    network: str | None = Field(default=None, description="link between nodes; absent: what the node's cards plug into")


class ServingSection(Section):
    """[serving]: engine and parallelism, in vLLM's words."""

    engine: str = Field(default="vllm-0.12", description="serving software, as a profile of its overheads")
    replicas: int = Field(default=1, ge=1, le=100_000, description="engines, each with a copy of the model")
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs that share each layer")
    pipeline_parallel_size: int = Field(default=1, ge=1, description="stages that the layers are split over")
    max_num_seqs: int = Field(default=256, ge=1, description="sequences that an engine runs at once")
    max_num_batched_tokens: int = Field(
        default=2048, ge=1, description="tokens of a step; fewer: smoother tokens, slower prompts"
    )
    max_model_len: int | None = Field(
        default=None,
        ge=1,
        description="tokens of a request at most, prompt and answer; absent: limited by memory alone",
    )
    block_size: int = Field(default=16, ge=1, le=1_048_576, description="tokens of a KV block")
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="share of a GPU's memory that the engine may use"
    )
    num_gpu_blocks_override: int | None = Field(
        default=None, ge=1, description="KV blocks of an engine; absent: what fits"
    )
    swap_space_gib: float = Field(
        default=4.0, ge=0, le=1e6, description="host memory for swapped KV blocks of a GPU, GiB"
    )
    enable_prefix_caching: bool = Field(
        default=False, description="keep the KV of those that leave, for prompts that open alike"
    )
    kv_offloading_size_gib: float = Field(
        default=0.0, ge=0, le=1e6, description="host memory of an engine for KV that its GPUs evict, all GPUs', GiB"
    )
    kv_offloading_disk_gib: float = Field(
        default=0.0, ge=0, le=1e8, description="room on drives of an engine for KV that its GPUs evict, GiB"
    )
    kv_offloading_eviction: Literal["lru", "fifo"] = Field(
        default="lru", description="what a full tier drops: what was not used for longest, or what came first"
    )
    kv_offloading_load: Literal["always", "cheaper"] = Field(
        default="always", description="load KV from below whenever it is there, or only where computing it takes longer"
    )
    kv_offloading_overlap: bool = Field(
        default=False, description="load KV layer by layer behind the step's arithmetic, instead of before the step"
    )
    scheduler: PolicyChoice = Field(
        default=PolicyChoice(name="chunked_prefill"), description="which sequences a step holds"
    )
    router: PolicyChoice = Field(
        default=PolicyChoice(name="least_outstanding"), description="which replica a request goes to"
    )
    low_priority_replicas: int = Field(
        default=0, ge=0, description="the last so many replicas serve requests of priority above 0, and nothing else"
    )

    @model_validator(mode="after")
    def _both_priorities(self) -> ServingSection:
        if self.low_priority_replicas >= self.replicas > 0 and self.low_priority_replicas:
            raise ValueError(
                f"low_priority_replicas = {self.low_priority_replicas} leaves none of {self.replicas} replicas to"
                " requests of priority 0; give fewer"
            )
        return self

    @model_validator(mode="after")
    def _a_cache_to_offload(self) -> ServingSection:
        if (self.kv_offloading_size_gib or self.kv_offloading_disk_gib) and not self.enable_prefix_caching:
            raise ValueError(
                "kv_offloading_size_gib and kv_offloading_disk_gib keep what a prefix cache evicts; set"
                " enable_prefix_caching = true"
            )
        if self.kv_offloading_disk_gib and not self.kv_offloading_size_gib:
            raise ValueError(
                "kv_offloading_disk_gib: what goes to drives passes through host memory; give kv_offloading_size_gib,"
                " the room there, too"
            )
        if self.kv_offloading_overlap and self.pipeline_parallel_size > 1:
            raise ValueError(
                "kv_offloading_overlap: stages of a pipeline wait for their KV before the step; set"
                " pipeline_parallel_size = 1 or leave it out"
            )
        return self

    @property
    def micro_batch_seqs(self) -> int:
        """Sequences that a micro-batch may hold, of which one a pipeline stage is in flight: together max_num_seqs at
        most.
        """
        return self.max_num_seqs // self.pipeline_parallel_size


class WorkloadSection(Section):
    """[workload]: a trace (catalog name or file) or a generator, and how much of it."""

    trace: str | None = Field(
        default=None, min_length=1, description="requests: a catalog name, or the path of a trace file"
    )
    generator: dict[str, Any] | None = Field(
        default=None, description="requests drawn instead: a table with its name and keys"
    )
    request_rate: float | None = Field(
        default=None, ge=1e-6, le=1e9, description="requests/s, Poisson, in place of a trace file's own arrivals"
    )
    rate_scale: float = Field(default=1.0, ge=1e-6, le=1e9, description="times the workload's own rate")
    duration_s: float | None = Field(
        default=None, gt=0, le=MAX_TIME_S, description="seconds of arrivals; absent: all of the trace"
    )
    num_requests: int | None = Field(default=None, ge=1, description="requests at most")

    @model_validator(mode="after")
    def _one_source(self) -> WorkloadSection:
        if (self.trace is None) == (self.generator is None):
            raise ValueError("give exactly one of 'trace' and 'generator'")
        if self.generator is not None and self.duration_s is None and self.num_requests is None:
            raise ValueError("a generator needs 'duration_s' or 'num_requests' beside it")
        if self.generator is not None and self.request_rate is not None:
            raise ValueError("'request_rate' goes with a trace file; a generator has its own arrivals")
        return self


class SloSection(Section):
    """[slo]: limits that a good request keeps, and at which percentile the run is judged."""

    ttft_s: float | None = Field(default=None, gt=0, description="limit on the time to the first token")
    tbt_s: float | None = Field(
        default=None, gt=0, description="limit on the longest gap between two tokens of a request"
    )
    tpot_s: float | None = Field(default=None, gt=0, description="limit on the mean gap between a request's tokens")
    e2e_s: float | None = Field(default=None, gt=0, description="limit on the time to the last token")
    percentile: float = Field(default=99.0, gt=0, le=100, description="of requests that must keep the limits")


class Scenario(NamedScenario):
    """Everything one simulation needs; the same scenario and seed give the same bytes."""

    model: ModelSection
    cluster: ClusterSection
    serving: ServingSection = ServingSection()
    workload: WorkloadSection
    slo: SloSection = SloSection()
    power: PowerSection | None = None
    energy: EnergySection | None = None

    @model_validator(mode="after")
    def _budget_holds_decodes(self) -> Scenario:
        serving, stages = self.serving, self.serving.pipeline_parallel_size
        if serving.micro_batch_seqs < 1:
            raise ValueError(
                f"serving.max_num_seqs = {serving.max_num_seqs} is less than serving.pipeline_parallel_size = {stages}:"
                " each stage works on sequences of its own; raise it or lower pipeline_parallel_size"
            )
        if serving.scheduler.name == "chunked_prefill" and serving.max_num_batched_tokens < serving.micro_batch_seqs:
            share = f" / pipeline_parallel_size = {stages}" if stages > 1 else ""
            raise ValueError(
                f"serving.max_num_batched_tokens = {serving.max_num_batched_tokens} is less than serving.max_num_seqs"
                f" = {serving.max_num_seqs}{share}: each running sequence takes a token a step; raise it or lower"
                " max_num_seqs"
            )
        return self
