"""The engines that serve a load within its limits on latency for the fewest joules, by enumeration.

For each tensor-parallel size and number of engines, the load of one is what comes in turn to one of them; the clocks
that keep the promise are found as `SloClock` finds them, with the sequences of the steady state; of these the one that
draws least counts. GPUs that no engine holds draw their idle watts. Pools begin as one a class and are joined with
their neighbours for as long as that saves watts, or until all keep the promise and fit (DynamoLLM, arXiv 2408.00741,
sends a class of too few requests to the next larger one).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from hardware_models.errors import FleetcastError
from policies.power.governor import ReplicaLoad
from policies.power.scaler import Demand, PoolPlan, Scaler, Terms
from policies.power.slo_clock import SloClock
from policies.power.steady_state import steady_state


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPerLoad(Scaler):
    """As few joules as keep the limits on latency, for the load that is expected.

    instances: may their number change? tensor_parallel_sizes: that engines may have, beside the scenario's own.
    prompt_limits, output_limits: tokens at which classes end, the last one apart. margin_fraction: of each limit, kept
    in reserve. headroom_fraction: more requests than expected, for which engines are enough.
    """

    instances: bool = True
    prompt_limits: tuple[int, ...] = ()
    output_limits: tuple[int, ...] = ()
    tensor_parallel_sizes: tuple[int, ...] = ()
    margin_fraction: float = 0.1
    headroom_fraction: float = 0.2

    def __post_init__(self) -> None:
        SloClock(margin_fraction=self.margin_fraction)  # which refuses what is none
        if not 0.0 <= self.headroom_fraction <= 10.0:
            raise FleetcastError(f"headroom_fraction = {self.headroom_fraction:g}: give a share from 0 to 10")
        for name in ("prompt_limits", "output_limits"):
            limits = getattr(self, name)
            if any(limit < 1 for limit in limits) or list(limits) != sorted(set(limits)):
                raise FleetcastError(f"{name} = {list(limits)}: give rising numbers of tokens, from 1 on")
        if not self.instances and self.classes > 1:
            raise FleetcastError(
                "instances = false with prompt_limits or output_limits: pools of classes need engines of their own;"
                " leave one of them out"
            )

    @property
    def classes(self) -> int:
        """How many classes of requests it tells apart."""
        return (len(self.prompt_limits) + 1) * (len(self.output_limits) + 1)

    def class_of(self, prompt_tokens: int, output_tokens: int) -> int:
        """Number of a request's class, the shortest requests' first; the answer's length is as predicted."""
        prompt, output = bisect_left(self.prompt_limits, prompt_tokens), bisect_left(self.output_limits, output_tokens)
        return prompt * (len(self.output_limits) + 1) + output

    def tensor_parallel_sizes_of(self, own: int) -> tuple[int, ...]:
        """The scenario's own first."""
        return (own, *sorted({*self.tensor_parallel_sizes} - {own}))

    def pools(self, demands: Mapping[int, Demand], terms: Terms) -> list[PoolPlan]:
        """All pools; where not even one of all classes fits, every GPU serves, as many as can share each layer."""
        if not self.instances:
            whole = PoolPlan(tuple(sorted(demands)), terms.gpus // terms.unit_gpus, terms.unit_gpus, 0.0)
            return [self.sharding(whole, joined(demands.values()), terms) or whole]
        classes: list[tuple[int, ...]] = [(number,) for number in sorted(demands)]
        found = {one: self._best(one, demands, terms) for one in classes}
        now = _Cost.of(classes, found, terms)
        while len(classes) > 1:
            trials = [
                [*classes[:i], first + second, *classes[i + 2 :]] for i, (first, second) in enumerate(pairwise(classes))
            ]
            fresh = {one for trial in trials for one in trial} - set(found)
            found |= {one: self._best(one, demands, terms) for one in fresh}
            then, chosen = min((_Cost.of(trial, found, terms), trial) for trial in trials)
            if then >= now and not now.broken:
                break
            classes, now = chosen, then
        plans = [plan for one in classes if (plan := found[one]) is not None]
        if now.broken:
            return [PoolPlan(tuple(sorted(demands)), terms.gpus // terms.unit_gpus, terms.unit_gpus, 0.0)]
        return plans

    def sharding(self, plan: PoolPlan, demand: Demand, terms: Terms) -> PoolPlan | None:
        """Of the pool's GPUs; the tensor-parallel sizes that divide them."""
        shapes = ((plan.gpus // gpus, gpus) for gpus in terms.profiles if not plan.gpus % gpus)
        return self._cheapest(plan.classes, demand, terms, shapes)

    def _best(self, classes: tuple[int, ...], demands: Mapping[int, Demand], terms: Terms) -> PoolPlan | None:
        shapes = ((count, gpus) for gpus in terms.profiles for count in range(1, terms.gpus // gpus + 1))
        return self._cheapest(classes, joined(demands[number] for number in classes), terms, shapes)

    def _cheapest(
        self, classes: tuple[int, ...], demand: Demand, terms: Terms, shapes: Iterable[tuple[int, int]]
    ) -> PoolPlan | None:
        expected = []
        for engines, gpus in shapes:
            load = demand.of_one(engines, 1.0)
            for mhz in terms.clocks_mhz:
                usual = steady_state(terms.profiles[gpus], mhz, load, terms.step_tokens, terms.max_num_seqs)
                if usual is not None:
                    extra_w = engines * (usual.watts - gpus * terms.off_w)  # beyond what these GPUs draw anyway
                    expected.append((extra_w, engines, gpus, mhz, engines * usual.watts))
        for _, engines, gpus, mhz, watts in sorted(expected):
            if self._keeps(engines, gpus, mhz, demand, terms):
                return PoolPlan(classes, engines, gpus, watts)
        return None

    def _keeps(self, engines: int, gpus: int, mhz: float, demand: Demand, terms: Terms) -> bool:
        """Are the limits kept, were there as many more requests as the headroom is for?"""
        profile, growth = terms.profiles[gpus], 1.0 + self.headroom_fraction
        load = demand.of_one(engines, growth)
        state = steady_state(profile, mhz, load, terms.step_tokens, terms.max_num_seqs)
        if state is None:
            return False
        came = demand.prompts_of_one(engines, growth)
        seen = ReplicaLoad(state.sequences, state.context_tokens, 0, came, terms.step_tokens)
        return SloClock(margin_fraction=self.margin_fraction).keeps(seen, profile, mhz, terms.objective)


class _Cost(NamedTuple):
    """Of pools; the lower the better."""

    broken: int  # pools whose promise cannot be kept, and units of GPUs that there are not
    watts: float  # of pools and of the GPUs that none holds

    @classmethod
    def of(
        cls, classes: Sequence[tuple[int, ...]], plans: Mapping[tuple[int, ...], PoolPlan | None], terms: Terms
    ) -> _Cost:
        """Of a pool for each of the given tuples of classes."""
        found = [plan for one in classes if (plan := plans[one]) is not None]
        excess = max(0, units(found, terms) - terms.gpus // terms.unit_gpus)
        free = terms.gpus - sum(plan.gpus for plan in found)
        watts = sum(plan.watts for plan in found) + terms.off_w * free
        return cls(len(classes) - len(found) + excess, watts)


def joined(demands: Iterable[Demand]) -> Demand:
    """Several classes' requests together."""
    every = list(demands)
    return Demand(list(merge(*(demand.arrivals for demand in every))), every[0].span_s)


def units(plans: Iterable[PoolPlan], terms: Terms) -> int:
    """Units of GPUs sharded alike that the pools' engines take."""
    engines: dict[int, int] = {}
    for plan in plans:
        engines[plan.tensor_parallel] = engines.get(plan.tensor_parallel, 0) + plan.engines
    return sum(ceil(count * gpus / terms.unit_gpus) for gpus, count in engines.items())
