"""The policies of offloaded inference, by the names that scenarios use."""

from __future__ import annotations

from policies.offload.block_plan import OffloadPolicy
from policies.offload.flexgen import FlexGen
from policies.offload.flexgen_search import FlexGenSearch
from policies.offload.zero_inference import Accelerate, ZeroInference

INFERENCE_OFFLOAD: dict[str, type[OffloadPolicy]] = {
    "flexgen": FlexGen,
    "flexgen_search": FlexGenSearch,
    "zero_inference": ZeroInference,
    "accelerate": Accelerate,
}
