"""How many KV blocks an engine has: device memory less weights, activation peak, context and graphs."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.dtypes import bytes_per_element
from hardware_models.errors import DoesNotFitError
from hardware_models.framework import Framework
from sim.scenario import ModelSection, ServingSection
from workloads.models.architecture import ModelArchitecture

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes on the fullest GPU of a replica, and the KV blocks that follow."""

    device_bytes: float
    usable_bytes: float  # device_bytes x gpu_memory_utilization
    weight_bytes: float
    activation_bytes: float
    overhead_bytes: float  # context, communication buffers, graphs
    block_bytes: float  # one KV block's share on this GPU
    kv_blocks: int
    overridden: bool  # num_gpu_blocks_override was given

    @property
    def peak_bytes(self) -> float:
        """In use with every KV block taken."""
        return self.weight_bytes + self.activation_bytes + self.overhead_bytes + self.kv_blocks * self.block_bytes

    @property
    def blocks_that_fit(self) -> int:
        """KV blocks that usable_bytes has room for; kv_blocks is more where it was overridden with more."""
        left = self.usable_bytes - self.weight_bytes - self.activation_bytes - self.overhead_bytes
        return int(left // self.block_bytes)


def activation_peak_bytes(
    architecture: ModelArchitecture, model: ModelSection, serving: ServingSection, widest_mlp: int
) -> float:
    """Largest live set of a forward pass: residual, hidden and both halves of the gated projection, or the fp32
    logits.

    The two peaks do not coincide: the projection's buffers are freed before the head runs. (Assumed form; vLLM
    measures it by a profiling run of max_num_batched_tokens tokens.)
    """
    tp = serving.tensor_parallel_size
    size = bytes_per_element("bf16" if model.compute_dtype == "fp8" else model.compute_dtype)
    body = serving.max_num_batched_tokens * (2 * architecture.hidden_size + 3 * widest_mlp / tp) * size
    logits = serving.micro_batch_seqs * architecture.vocab_size * (4 + size)
    return float(max(body, logits))


def plan_memory(
    *,
    device_bytes: float,
    weight_bytes: float,
    activation_bytes: float,
    kv_bytes_per_token: float,
    framework: Framework,
    serving: ServingSection,
    where: str,
) -> MemoryPlan:
    """KV blocks of one replica; raises DoesNotFitError, saying by how much and what would help.

    kv_bytes_per_token: on the GPU that holds most. where: the deployment in words, for the message.
    """
    usable = device_bytes * serving.gpu_memory_utilization
    overhead = float(framework.context_bytes + framework.graph_bytes)
    block_bytes = kv_bytes_per_token * serving.block_size
    left = usable - weight_bytes - activation_bytes - overhead
    blocks = serving.num_gpu_blocks_override or int(left // block_bytes)
    if left < 0 or blocks < 1:
        share = f"{serving.gpu_memory_utilization:.0%} of {device_bytes / GIB:.1f} GiB"
        raise DoesNotFitError(
            f"{where} does not fit: weights {weight_bytes / GIB:.1f} GiB + activations"
            f" {activation_bytes / GIB:.1f} GiB + context and graphs {overhead / GIB:.1f} GiB a GPU leave no room for"
            f" KV cache in {usable / GIB:.1f} GiB ({share}); raise serving.tensor_parallel_size or"
            " pipeline_parallel_size, use a narrower model.weight_dtype or a larger GPU"
        )
    return MemoryPlan(
        device_bytes,
        usable,
        weight_bytes,
        activation_bytes,
        overhead,
        block_bytes,
        blocks,
        serving.num_gpu_blocks_override is not None,
    )
