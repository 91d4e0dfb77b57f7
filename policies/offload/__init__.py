"""Policies that train models beyond a GPU's memory: which tier holds what, and what moves when."""

from policies.offload.deep_optimizer import DeepOptimizerStates
from policies.offload.errors import TierError
from policies.offload.fuyou import Fuyou
from policies.offload.low_rank import LowRankStates
from policies.offload.memascend import MemAscend
from policies.offload.ssdtrain import SsdTrain
from policies.offload.superpipeline import Superpipeline
from policies.offload.work import DRIVES, GPU, HOST, LayerWork, Machine, Needs, OffloadWork
from policies.offload.zero_infinity import ZeroInfinity
from policies.offload.zero_offload import ZeroOffload
from policies.offload.zo2 import Zo2

OffloadPolicy = (
    ZeroOffload
    | ZeroInfinity
    | Fuyou
    | DeepOptimizerStates
    | MemAscend
    | Zo2
    | SsdTrain
    | LowRankStates
    | Superpipeline
)
OFFLOAD: dict[str, type[OffloadPolicy]] = {
    "zero_offload": ZeroOffload,
    "zero_infinity": ZeroInfinity,
    "fuyou": Fuyou,
    "deep_optimizer_states": DeepOptimizerStates,
    "memascend": MemAscend,
    "zo2": Zo2,
    "ssdtrain": SsdTrain,
    "low_rank_states": LowRankStates,
    "superpipeline": Superpipeline,
}

__all__ = [
    "DRIVES",
    "GPU",
    "HOST",
    "OFFLOAD",
    "DeepOptimizerStates",
    "Fuyou",
    "LayerWork",
    "LowRankStates",
    "Machine",
    "MemAscend",
    "Needs",
    "OffloadPolicy",
    "OffloadWork",
    "SsdTrain",
    "Superpipeline",
    "TierError",
    "ZeroInfinity",
    "ZeroOffload",
    "Zo2",
]
