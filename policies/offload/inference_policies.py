"""The policies of offloaded inference, by the names that scenarios use."""

from __future__ import annotations

from policies.offload.block_plan import OffloadPolicy
from policies.offload.expert_plan import ExpertsOnStorage, HybridExperts
from policies.offload.flash_plan import LlmInFlash
from policies.offload.flexgen import FlexGen
from policies.offload.flexgen_search import FlexGenSearch
from policies.offload.storage_attention import StorageAttention
from policies.offload.sweeps import MoeLens
from policies.offload.zero_inference import Accelerate, ZeroInference

INFERENCE_OFFLOAD: dict[str, type[OffloadPolicy]] = {
    "flexgen": FlexGen,
    "flexgen_search": FlexGenSearch,
    "zero_inference": ZeroInference,
    "accelerate": Accelerate,
    "hybrid_experts": HybridExperts,
    "experts_on_storage": ExpertsOnStorage,
    "llm_in_flash": LlmInFlash,
    "storage_attention": StorageAttention,
    "moe_lens": MoeLens,
}
