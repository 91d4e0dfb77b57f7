"""How copies of a model agree: gradients added up by NCCL, in levels, by hosts, as one bit, or weights now and then.

HFReduce: arXiv 2408.14158. 1-bit Adam: arXiv 2102.02888. Local updates with an exchange that the next ones hide: CO2,
arXiv 2401.16265.
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.errors import ImpossibleError
from policies.parallelism.exchange import Hops, hop
from policies.parallelism.hierarchical import HybridShard
from policies.parallelism.sharding import Sharding

KEY = "training.gradient_reduce"
FP32_BYTES = 4.0
BIT_BYTES = 1.0 / 8.0
# Passes of fp32, kernel by kernel of DeepSpeed 0.3.16, runtime/comm/nccl.py. What is compressed: error added (3), its
# norm (1), the new error out of signs (15.5), signs packed (5.5). What came is unpacked, and averaged or copied.
COMPRESSION_PASSES = 25.0
UNPACKING_PASSES = 9.0
OUTER_PASSES = 7.0  # fp32: difference of weights, outer momentum, weights, each read and most written


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientReduce:
    """NCCL's collectives, as the sharding asks for them."""

    def check(self, sharding: Sharding) -> None:
        """Raise ImpossibleError for a sharding that it does not go with."""

    @property
    def after_backward(self) -> bool:
        """Part of the optimizer's step: nothing of it goes beside the backward."""
        return False

    @property
    def every_steps(self) -> int:
        """Steps from one exchange to the next."""
        return 1

    @property
    def beside_next_steps(self) -> bool:
        """Does it run beside the steps after it, which do without its result?"""
        return False

    @property
    def held_bytes(self) -> float:
        """More held on a device, a parameter."""
        return 0.0

    def reduce(self, sharding: Sharding, ranks: int, in_server: int, gradient_width: float) -> Hops:
        """What copies exchange of gradients after a backward."""
        return sharding.reduce(ranks, gradient_width)

    def finish(self, sharding: Sharding, ranks: int, gradient_width: float) -> Hops:
        """What is still to add up after the last backward of a step."""
        return sharding.finish(ranks, gradient_width)

    def average(self, sharding: Sharding, ranks: int, weight_width: float) -> Hops:
        """What is exchanged of weights, once in `every_steps` steps."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HierarchicalReduce(GradientReduce):
    """Reduce-scatter inside servers, all-reduce of each part between them, all-gather inside, one after another."""

    def check(self, sharding: Sharding) -> None:
        """Levels of its own are none of this."""
        _refuse(sharding, 2, "hierarchical")

    def reduce(self, sharding: Sharding, ranks: int, in_server: int, gradient_width: float) -> Hops:
        """A part of each server's sum goes between servers, whole or shared out further."""
        inside = min(in_server, ranks)
        if ranks % inside:
            raise ImpossibleError(
                f"{KEY} 'hierarchical': {inside} copies in a server do not divide {ranks} data-parallel ranks; take"
                " 'nccl'"
            )
        first = hop("reduce_scatter", inside, gradient_width)
        part = gradient_width / inside
        if sharding.stage:
            return first + hop("reduce_scatter", ranks // inside, part, apart=inside)
        across = hop("all_reduce", ranks // inside, part, apart=inside)
        return first + across + hop("all_gather", inside, gradient_width)


@dataclass(frozen=True, slots=True, kw_only=True)
class HfReduce(GradientReduce):
    """Hosts add up, and exchange along two trees: no multiprocessor and no path between devices is used."""

    def check(self, sharding: Sharding) -> None:
        """It leaves everybody the whole sum."""
        _refuse(sharding, 1, "hfreduce")

    def reduce(self, sharding: Sharding, ranks: int, in_server: int, gradient_width: float) -> Hops:
        """One collective of the hosts'."""
        return hop("hfreduce", ranks, gradient_width)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneBitAdam(GradientReduce):
    """Signs of the momentum, with what they miss added next time: each rank averages a part, and all gather the parts.

    The first `warmup_fraction` of a training's steps are plain Adam's; a step here is one of those after, or of both
    on average where it is given.
    """

    warmup_fraction: float = 0.0

    def check(self, sharding: Sharding) -> None:
        """Every rank has the whole momentum."""
        _refuse(sharding, 0, "one_bit_adam")
        if not 0.0 <= self.warmup_fraction <= 1.0:
            raise ImpossibleError(f"{KEY}.warmup_fraction = {self.warmup_fraction}: is no share of steps; give 0 to 1")

    @property
    def after_backward(self) -> bool:
        """The optimizer compresses what it has."""
        return True

    @property
    def held_bytes(self) -> float:
        """What a worker's signs missed."""
        return FP32_BYTES

    def reduce(self, sharding: Sharding, ranks: int, in_server: int, gradient_width: float) -> Hops:
        """Parts of a bit an element there and back, and on average the warm-up's whole gradients."""
        warm, rest = self.warmup_fraction, 1.0 - self.warmup_fraction
        compressed = 1.0 + 1.0 / ranks  # all of the own momentum, and the averaged part
        passes = rest * (compressed * COMPRESSION_PASSES + 2.0 * UNPACKING_PASSES) * FP32_BYTES
        plain = hop("all_reduce", ranks, warm * gradient_width) if warm else ()
        bits = hop("all_to_all", ranks, rest * BIT_BYTES, passes_bytes=passes)
        return plain + bits + hop("all_gather", ranks, rest * BIT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUpdates(GradientReduce):
    """Every copy trains alone for `steps` steps; then their weights are averaged, while all wait.

    With sharding 'hybrid_shard' those who share a copy (a server's) train it together, and its parts are averaged.
    """

    steps: int = 12

    def check(self, sharding: Sharding) -> None:
        """Every copy, or group that shares one, has its own whole optimizer."""
        if not isinstance(sharding, HybridShard):
            _refuse(sharding, 0, "local updates", ", hybrid_shard")
        if self.steps < 1:
            raise ImpossibleError(f"{KEY}.steps = {self.steps}: is no number of steps; give at least 1")

    @property
    def after_backward(self) -> bool:
        """Weights, once they are updated."""
        return True

    @property
    def every_steps(self) -> int:
        """The local steps."""
        return self.steps

    @property
    def held_bytes(self) -> float:
        """Weights of the last exchange and an outer momentum."""
        return 2 * FP32_BYTES

    def reduce(self, sharding: Sharding, ranks: int, in_server: int, gradient_width: float) -> Hops:
        """Only among those who share a copy."""
        return sharding.reduce(ranks, gradient_width) if isinstance(sharding, HybridShard) else ()

    def finish(self, sharding: Sharding, ranks: int, gradient_width: float) -> Hops:
        """Copies do not meet in a step."""
        return ()

    def average(self, sharding: Sharding, ranks: int, weight_width: float) -> Hops:
        """All weights, or each rank's part of them."""
        parts = sharding.weight_parts(ranks)
        passes = OUTER_PASSES * FP32_BYTES / parts
        return hop("all_reduce", ranks // parts, weight_width / parts, apart=parts, passes_bytes=passes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Co2(LocalUpdates):
    """The same, while the next steps go on, which learn of it one round later."""

    steps: int = 48

    @property
    def beside_next_steps(self) -> bool:
        """A round takes as long as its steps or its exchange, whichever is longer."""
        return True

    @property
    def held_bytes(self) -> float:
        """Also what is on its way."""
        return 3 * FP32_BYTES


def _refuse(sharding: Sharding, stage: int, name: str, more: str = "") -> None:
    if sharding.stage > stage:
        fits = ", ".join(("none", "zero1", "zero2")[: stage + 1]) + more
        raise ImpossibleError(f"{KEY} '{name}': does not go with ZeRO stage {sharding.stage}; take sharding {fits}")


GRADIENT_REDUCE: dict[str, type[GradientReduce]] = {
    "nccl": GradientReduce,
    "hierarchical": HierarchicalReduce,
    "hfreduce": HfReduce,
    "one_bit_adam": OneBitAdam,
    "local_updates": LocalUpdates,
    "co2": Co2,
}
