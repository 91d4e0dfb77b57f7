"""All replicas serve, sharded as the scenario has them: what scaling is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policies.power.scaler import Demand, PoolPlan, Scaler, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class AlwaysOn(Scaler):
    """One pool for all requests."""

    def tensor_parallel_sizes_of(self, own: int) -> tuple[int, ...]:
        """The scenario's own alone."""
        return (own,)

    def pools(self, demands: Mapping[int, Demand], terms: Terms) -> list[PoolPlan]:
        """Every GPU."""
        return [PoolPlan(tuple(sorted(demands)), terms.gpus // terms.unit_gpus, terms.unit_gpus, 0.0)]

    def sharding(self, plan: PoolPlan, demand: Demand, terms: Terms) -> PoolPlan | None:
        """As they are."""
        return plan
