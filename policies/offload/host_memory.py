"""What a training framework allocates in host memory for tensors on their way: slots, pinned blocks, temporaries.

ZeRO-Infinity has a slot of the largest tensor's size for every tensor that may be on its way: the token table, the
output projection and the matrices of one block. PyTorch's allocator of pinned memory rounds a block up to a power of
two. A search for infinities by tensor operators makes a copy of absolute values, and a truth value for each. MemAscend
has a slot of its own size for each class of tensor, pins what is asked for, and searches in one pass (arXiv 2505.23254,
sections 3 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import Literal, TypeAlias

from policies.offload.work import FP32, WEIGHT_BYTES, OffloadWork

Slots: TypeAlias = Literal["largest_tensor", "by_class"]
Pinned: TypeAlias = Literal["powers_of_two", "exact"]
OverflowCheck: TypeAlias = Literal["temporaries", "fused"]
POOL, CHECKED = "pool of pinned slots", "temporaries of the overflow check"
TRUTH = 1.0  # bytes of a truth value
TEMPORARIES = FP32 + TRUTH  # of a gradient
SCANNED = 2 * FP32 + (FP32 + TRUTH) + TRUTH  # read and written a gradient: absolute values, comparisons, their sum
SCANNED_AT_ONCE = FP32


@dataclass(frozen=True, slots=True)
class HostRules:
    """How host memory is allocated; the first choice of each is ZeRO-Infinity's."""

    slots: Slots
    pinned: Pinned
    overflow_check: OverflowCheck

    def block(self, size_bytes: float) -> float:
        """Bytes that a pinned block of such a size takes."""
        if self.pinned == "exact" or size_bytes <= 1.0:
            return size_bytes
        return float(2 ** ceil(log2(size_bytes)))

    def pool(self, work: OffloadWork) -> float:
        """One block of memory with a slot for every tensor that may be on its way."""
        tensors = [work.layers[0].parameters, work.layers[-1].parameters, *(m * n for m, n in work.matrices)]
        tensors = [one / work.ranks for one in tensors if one]
        slots = len(tensors) * max(tensors) if self.slots == "largest_tensor" else sum(tensors)
        return self.block(slots * WEIGHT_BYTES)

    def temporaries(self, parameters: float) -> float:
        """While gradients of so many parameters are searched for infinities."""
        return parameters * TEMPORARIES if self.overflow_check == "temporaries" else 0.0

    def scanned(self, parameters: float) -> float:
        """Bytes of host memory that the search reads and writes."""
        return parameters * (SCANNED if self.overflow_check == "temporaries" else SCANNED_AT_ONCE)
