"""Whether a model fits on this device, and how many KV blocks are left beside it."""

from __future__ import annotations

from typing import Any

from calibration.reference_server.options import ServerOptions
from calibration.reference_server.shape import ModelShape
from hardware_models.errors import DoesNotFitError
from workloads.models.architecture import ModelArchitecture
from workloads.models.counts import weight_bytes

GIB = 1 << 30
ITEM_BYTES = {"bf16": 2, "fp32": 4}
GRAPH_BYTES = GIB  # kept free for captured graphs (assumed; their activations share one pool)
ACTIVATION_MARGIN = 1.2  # over the warm-up's peak, for fragments between allocations


def block_bytes(shape: ModelShape, options: ServerOptions) -> int:
    """One KV block over all layers."""
    return 2 * shape.layers * options.block_size * shape.kv_width * ITEM_BYTES[options.dtype]


def check_weights_fit(torch: Any, architecture: ModelArchitecture, options: ServerOptions) -> float:
    """Bytes of the weights; raises DoesNotFitError before anything is allocated on a GPU that cannot hold them."""
    needed = weight_bytes(architecture, options.dtype)
    if options.device == "cuda":
        free, total = torch.cuda.mem_get_info()
        usable = min(free, total * options.gpu_memory_utilization)
        if needed > usable:
            raise DoesNotFitError(
                f"{architecture.name} ({options.dtype}) does not fit: its weights take {needed / GIB:.1f} GiB, of"
                f" {total / GIB:.1f} GiB on {torch.cuda.get_device_name()} {usable / GIB:.1f} GiB may be used; give a"
                " smaller model, or raise --gpu-memory-utilization"
            )
    return needed


def count_blocks(torch: Any, shape: ModelShape, options: ServerOptions, activation_bytes: float, longest: int) -> int:
    """KV blocks of the engine: as told, or what the GPU has left; raises DoesNotFitError where one sequence of
    `longest` tokens would not fit.
    """
    size = block_bytes(shape, options)
    blocks = options.num_gpu_blocks_override
    if blocks is None:
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        kept = ACTIVATION_MARGIN * activation_bytes + (GRAPH_BYTES if options.graphs else 0)
        left = total * options.gpu_memory_utilization - (total - free) - kept
        blocks = max(0, int(left // size) - 1)  # one more belongs to the padding of graphs
    needed = -(-longest // options.block_size)
    if blocks < needed:
        raise DoesNotFitError(
            f"the KV cache has {blocks} blocks of {options.block_size} tokens where the longest request needs {needed};"
            " raise --num-gpu-blocks or --gpu-memory-utilization, or lower --max-model-len or --max-num-batched-tokens"
        )
    return blocks
