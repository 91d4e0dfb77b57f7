"""What a node of each type sustains: of the layouts of a type, the one with the highest rate for its price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hardware_models.errors import FleetcastError
from sim.plan.bounds import replicas_needed
from sim.plan.capacity import requests_at
from sim.plan.deployments import Layout
from sim.plan.prices import Prices
from sim.plan.rate_search import Note, RateSearch
from sim.plan.request_work import RequestWork
from sim.plan.words import verdict_words
from sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Rated:
    """The best layout of a node type, and what so many of its nodes as a replica needs sustain."""

    layout: Layout
    capacity_per_s: float  # of one rung
    usd_per_h: float  # of one rung


class Rater:
    """Finds the layout of each node type that sustains most, and how much that is."""

    def __init__(self, scenario: Scenario, peak_per_s: float, prices: Prices, tolerance: float, note: Note) -> None:
        """peak_per_s: of the demand, at which layouts are compared before any is simulated; tolerance: of rates."""
        self._scenario, self._peak_per_s, self._prices = scenario, peak_per_s, prices
        self._tolerance, self._note = tolerance, note
        self._requests = requests_at(scenario.workload, scenario.seed, peak_per_s)
        self.simulations = 0

    def rate(self, layouts: Sequence[Layout]) -> tuple[list[Rated], dict[str, str]]:
        """One a node type that can serve at all, and why the others cannot."""
        best: dict[str, Rated] = {}
        why: dict[str, str] = {}
        bounded = []
        for number, layout in enumerate(layouts):
            self._note(f"{layout.name}: proving ({number + 1} of {len(layouts)})")
            most, reason = self._most_per_s(layout)
            if most > 0.0:
                bounded.append((most, layout))
            else:
                _explain(why, layout.node.name, reason)
        bounded.sort(key=lambda pair: -pair[0])
        for number, (most, layout) in enumerate(bounded):
            known = best.get(layout.node.name)
            if known is not None and known.capacity_per_s / known.usd_per_h >= most / self._usd_per_h(layout):
                continue  # even its bound is no more for the money
            self._note(f"{layout.name}: highest rate ({number + 1} of {len(bounded)})")
            rate, reason = self._highest(layout, most)
            if rate > 0.0:
                found = Rated(layout, rate, self._usd_per_h(layout))
                if known is None or rate / found.usd_per_h > known.capacity_per_s / known.usd_per_h:
                    best[layout.node.name] = found
            else:
                _explain(why, layout.node.name, reason)
        return list(best.values()), {name: reason for name, reason in why.items() if name not in best}

    def _usd_per_h(self, layout: Layout) -> float:
        price = self._prices.usd_per_gpu_h(layout.gpu.name)
        assert price is not None
        return price * layout.gpus(1)

    def _most_per_s(self, layout: Layout) -> tuple[float, str]:
        """About the rate that the price model allows one rung at most; 0 and why where it can serve none."""
        try:
            one = layout.scenario(self._scenario, 1)
            needed = replicas_needed(RequestWork(one, self._requests), one.slo, self._tolerance)
        except FleetcastError as error:
            return 0.0, str(error)
        if math.isinf(needed.replicas):
            return 0.0, needed.reason
        return self._peak_per_s / needed.replicas * layout.replicas_a_rung, ""

    def _highest(self, layout: Layout, most_per_s: float) -> tuple[float, str]:
        scenario = layout.scenario(self._scenario, 1)
        search = RateSearch(scenario, self._tolerance)
        kept, broken = search.highest(
            lambda rate: search.keeps(scenario.seed, rate), min(most_per_s, self._peak_per_s) / 2.0, 1.5
        )
        self.simulations += search.simulations
        if kept == 0.0:
            words = verdict_words(search.last, scenario.slo.percentile) if search.last is not None else ""
            return 0.0, f"even {broken:.3g} requests/s: {words}"
        return kept, ""


def _explain(why: dict[str, str], node: str, reason: str) -> None:
    """Keep why a node type cannot serve: of its layouts, one that fits tells more than one that does not."""
    if node not in why or "does not fit" in why[node]:
        why[node] = reason
