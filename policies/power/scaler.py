"""How many engines serve, and over how many GPUs each is sharded: the types that such policies speak.

A pool is the engines that serve some classes of requests; classes are by lengths of prompt and answer. The cluster
decides pools and their engines rarely, a pool its sharding more often, each engine its clock every few seconds
(`policies.power.governor`), as in DynamoLLM (Stojkovic et al., arXiv 2408.00741).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.power.governor import Objective
from policies.power.steady_state import EngineProfile, MeanLoad

ENOUGH = 400  # prompts that a percentile of 99 is judged by
Arrival = tuple[float, int, int]  # when, tokens of its prompt, tokens of its answer


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests that came, or will come, in a span of time."""

    arrivals: Sequence[Arrival]  # a sample of them, in order
    span_s: float

    def of_one(self, engines: int, growth: float) -> MeanLoad:
        """What one of so many engines gets, were it more by a factor."""
        count = len(self.arrivals)
        if not count:
            return MeanLoad(0.0, 1.0, 1.0)
        prompts, outputs = (sum(one[i] for one in self.arrivals) / count for i in (1, 2))
        return MeanLoad(growth * count / self.span_s / engines, prompts, outputs)

    def prompts_of_one(self, engines: int, growth: float) -> list[tuple[float, int]]:
        """Prompts that one of them gets, in turn; then those of another, after a pause, until they are enough."""
        found: list[tuple[float, int]] = []
        for first in range(engines):
            begin_s = 2.0 * self.span_s * first
            found += [(begin_s + at_s / growth, prompt) for at_s, prompt, _ in self.arrivals[first::engines]]
            if len(found) >= ENOUGH:
                break
        return found


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every choice."""

    profiles: Mapping[int, EngineProfile]  # by tensor-parallel size
    clocks_mhz: Sequence[float]  # that engines may run at, rising
    objective: Objective
    step_tokens: int  # the most that a step computes
    max_num_seqs: int
    off_w: float  # of a GPU that no engine holds
    gpus: int  # of all engines
    unit_gpus: int  # of these, that are sharded alike


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Engines of a pool."""

    classes: tuple[int, ...]  # that it serves
    engines: int
    tensor_parallel: int
    watts: float  # expected, of all of them

    @property
    def gpus(self) -> int:
        """That they hold."""
        return self.engines * self.tensor_parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Decides pools and their engines."""

    @property
    def classes(self) -> int:
        """How many classes of requests it tells apart."""
        return 1

    def class_of(self, prompt_tokens: int, output_tokens: int) -> int:
        """Number of a request's class, the shortest requests' first; the answer's length is as predicted."""
        return 0

    def tensor_parallel_sizes_of(self, own: int) -> tuple[int, ...]:
        """That engines may have; own: the scenario's."""
        raise NotImplementedError

    def pools(self, demands: Mapping[int, Demand], terms: Terms) -> list[PoolPlan]:
        """All pools, for what each class will get; together they fit into the GPUs."""
        raise NotImplementedError

    def sharding(self, plan: PoolPlan, demand: Demand, terms: Terms) -> PoolPlan | None:
        """A pool's GPUs, sharded for its demand; None where they do not keep the promise in any way."""
        raise NotImplementedError
