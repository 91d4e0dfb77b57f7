"""What an offloaded step computes, layer by layer, and the machine as one of its ranks has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from policies.offload.errors import TierError

GPU, HOST, DRIVES = "GPU memory", "host memory", "drives"
WEIGHT_BYTES = 2.0  # of a parameter where it is computed with, and of its gradient
FP32 = 4.0
STATE_BYTES = 12.0  # of a parameter: weight, momentum and variance in fp32


@dataclass(frozen=True, slots=True)
class LayerWork:
    """Of one layer, or a piece of one, and micro-batch on one GPU; the token table and the output too."""

    name: str
    parameters: float
    forward_s: float
    backward_s: float  # gradients alone
    recompute_s: float  # before them, where nothing but `kept_bytes` was kept
    kept_bytes: float  # what comes into the layer
    working_bytes: float  # while a pass runs: its activations, and gradients of them
    products: tuple[tuple[float, float], ...] = ()  # seconds to compute again, and bytes of the output, of each product
    forward_bytes: float = 0.0  # while a forward runs of which nothing is kept


@dataclass(frozen=True, slots=True)
class OffloadWork:
    """A step of one rank; copies of the model are `ranks`, each of which updates its part of the parameters."""

    layers: tuple[LayerWork, ...]
    micro_batches: int = 1
    ranks: int = 1
    pieces: int = 1  # that a layer of the model is cut in; each is a layer here
    matrices: tuple[tuple[float, float], ...] = ()  # rows and columns of each of one layer of the model

    @property
    def parameters(self) -> float:
        """Of the whole model."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def largest(self) -> float:
        """Parameters of the largest layer."""
        return max(layer.parameters for layer in self.layers)

    def part(self, layer: LayerWork) -> float:
        """Of a layer's parameters, those that one rank updates."""
        return layer.parameters / self.ranks

    def deeper(self, layers: int) -> OffloadWork:
        """The same with so many of the model's layers between the first and the last, all like the first of them."""
        inner = self.layers[1 : 1 + self.pieces]
        return replace(self, layers=(self.layers[0], *inner * layers, self.layers[-1]))


@dataclass(frozen=True, slots=True)
class Machine:
    """One rank's part of a server: rates in bytes/s, budgets in bytes."""

    links: Mapping[str, float]  # that transfers share
    h2d: tuple[str, ...]  # links that a copy to the GPU crosses
    d2h: tuple[str, ...]
    copy_latency_s: float
    dram: str  # the link that stands for host memory
    read_bytes_per_s: float  # of drives; 0: there are none
    write_bytes_per_s: float
    pageable_bytes_per_s: float  # of copies from or to host memory that is not pinned
    thread_bytes_per_s: float  # of host memory that one thread reads and writes as it converts numbers
    adam_parameters_per_s: float
    adam_bytes: float  # of host memory that a parameter's update touches
    budgets: Mapping[str, float]  # tier -> bytes
    host_s: float  # before the first pass: the batch, the loss scale
    gpu_adam_s: Callable[[float], float]  # of so many parameters
    gather_s: Callable[[float], float]  # of so many bytes among all ranks, of which each has its part
    reduce_s: Callable[[float], float]
    raw_read_bytes_per_s: float  # of drives, by requests to their blocks, past the file system
    raw_write_bytes_per_s: float
    direct_read_bytes_per_s: float  # of drives, to the GPU past host memory; 0: there are none
    direct_write_bytes_per_s: float
    gpu_product_s: Callable[[float, float, float], float]  # of matrices: rows, columns, and what is summed over
    gpu_touch_s: Callable[[float], float]  # of a kernel that streams over so many bytes of its memory


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that a rank takes of each tier, by owner: the most that it may hold at once."""

    by_tier: Mapping[str, Mapping[str, float]]

    def total(self, tier: str) -> float:
        """Of all owners."""
        return sum(self.by_tier.get(tier, {}).values())

    def short(self, machine: Machine) -> dict[str, float]:
        """Tiers that have too little, and how many bytes are missing of each."""
        missing = {tier: self.total(tier) - machine.budgets.get(tier, 0.0) for tier in self.by_tier}
        return {tier: size for tier, size in missing.items() if size > 0}

    def check(self, machine: Machine) -> None:
        """Raises TierError for the tier that misses the most."""
        if short := self.short(machine):
            tier = max(short, key=lambda name: short[name])
            raise TierError(tier, self.total(tier), short[tier], dict(self.by_tier[tier]))
