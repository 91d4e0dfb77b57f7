"""A scenario of offloaded inference: one GPU, the memory below it, and a batch job of equal requests."""

from __future__ import annotations

from pydantic import Field, model_validator

from sim.scenario import ClusterSection, ModelSection
from sim.section import NamedScenario, PolicyChoice, RunName, Section

MAX_TOKENS = 1_000_000


class OffloadRates(Section):
    """[offload] rates: figures measured on the machine, in place of those that its data sheets give."""

    h2d_bytes_per_s: float | None = Field(default=None, ge=1e3, le=1e18, description="pinned host memory to GPU")
    h2d_pageable_bytes_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="other host memory to GPU"
    )
    d2h_cache_bytes_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="keys and values, GPU to host memory"
    )
    d2h_activation_bytes_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="activations, GPU to host memory"
    )
    storage_read_bytes_per_s: float | None = Field(default=None, ge=1e3, le=1e18, description="all drives together")
    storage_read_latency_s: float | None = Field(
        default=None, gt=0, le=10, description="of one small read, where many threads read at once"
    )
    storage_write_bytes_per_s: float | None = Field(default=None, ge=1e3, le=1e18, description="all drives together")
    prefill_matrix_flop_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="most that the GPU's matrix products sustain while it reads prompts"
    )
    decode_matrix_flop_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="most that they sustain while it decodes"
    )
    prefill_attention_flop_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="the GPU's attention, prompts"
    )
    decode_attention_flop_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="the GPU's attention, decoding"
    )
    cpu_attention_flop_per_s: float | None = Field(default=None, ge=1e3, le=1e18, description="the CPU's attention")
    cpu_matrix_flop_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="the CPU's matrix products, experts'"
    )
    cpu_stream_bytes_per_s: float | None = Field(
        default=None, ge=1e3, le=1e18, description="weights that the CPU streams from host memory as it multiplies"
    )


class OffloadedInferenceSection(Section):
    """[offload]: what lies where, and in what order it is computed."""

    policy: PolicyChoice = Field(description="how weights, KV cache and activations are spread and streamed")
    rates: OffloadRates = Field(default=OffloadRates(), description="measured figures in place of data sheets'")
    drives: int | None = Field(
        default=None, ge=0, le=1000, description="drives of the server; absent: as the node's file says"
    )
    host_memory_bytes: float | None = Field(
        default=None, ge=1e9, le=1e15, description="of the server; absent: as the node's file says"
    )
    check_memory: bool = Field(default=True, description="refuse what does not fit")


class BatchJobSection(Section):
    """[workload]: equal requests, all there from the start."""

    prompt_tokens: int = Field(ge=1, le=MAX_TOKENS, description="of each request")
    output_tokens: int = Field(ge=1, le=MAX_TOKENS, description="of each request")
    num_requests: int | None = Field(default=None, ge=1, description="requests; absent: one block of the policy")


class OffloadedInferenceScenario(NamedScenario):
    """Everything that one simulated batch job needs."""

    name: RunName = "offload"
    model: ModelSection
    cluster: ClusterSection
    offload: OffloadedInferenceSection
    workload: BatchJobSection

    @model_validator(mode="after")
    def _one_gpu(self) -> OffloadedInferenceScenario:
        if self.cluster.nodes != 1:
            raise ValueError(f"cluster.nodes = {self.cluster.nodes}: offloaded inference runs on one server; give 1")
        return self
