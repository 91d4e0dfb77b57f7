"""Policies that train models beyond a GPU's memory: which tier holds what, and what moves when."""

from policies.offload.errors import TierError
from policies.offload.fuyou import Fuyou
from policies.offload.work import DRIVES, GPU, HOST, LayerWork, Machine, Needs, OffloadWork
from policies.offload.zero_infinity import ZeroInfinity
from policies.offload.zero_offload import ZeroOffload

OffloadPolicy = ZeroOffload | ZeroInfinity | Fuyou
OFFLOAD: dict[str, type[OffloadPolicy]] = {
    "zero_offload": ZeroOffload,
    "zero_infinity": ZeroInfinity,
    "fuyou": Fuyou,
}

__all__ = [
    "DRIVES",
    "GPU",
    "HOST",
    "OFFLOAD",
    "Fuyou",
    "LayerWork",
    "Machine",
    "Needs",
    "OffloadPolicy",
    "OffloadWork",
    "TierError",
    "ZeroInfinity",
    "ZeroOffload",
]
