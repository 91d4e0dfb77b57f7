"""What a node of each type sustains: of the layouts of a type, the one that serves the peak for least."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hardware_models.errors import ImpossibleError
from sim.plan.bounds import replicas_needed
from sim.plan.capacity import requests_at
from sim.plan.deployments import Layout
from sim.plan.judge import judge
from sim.plan.prices import Prices
from sim.plan.rate_search import Note, RateSearch
from sim.plan.request_work import RequestWork
from sim.plan.search import STRIDE
from sim.plan.stability import ROUNDING
from sim.plan.words import verdict_words
from sim.scenario import Scenario

MOST_RUNGS = 512
NEAR = 1.1  # first step from the peak, near which the smallest pool that serves it is at its limit


@dataclass(frozen=True, slots=True)
class Rated:
    """The best layout of a node type, and what so many of its nodes as a replica needs sustain."""

    layout: Layout
    capacity_per_s: float  # of one rung, as one of a pool of `rungs`
    usd_per_h: float  # of one rung
    rungs: int = 1  # of the smallest pool that serves the peak, or of the largest allowed

    def peak_usd_per_h(self, peak_per_s: float) -> float:
        """Of what the peak takes."""
        return self.usd_per_h * max(self.rungs, math.ceil(peak_per_s / self.capacity_per_s * (1.0 - ROUNDING)))


@dataclass(frozen=True, slots=True)
class _Bound:
    """What the price model says of a layout."""

    layout: Layout
    first: int  # rungs that the peak takes at least
    most_per_s: float  # of a rung, about


class Rater:
    """Finds the layout of each node type that serves the peak for least, and what it sustains.

    A pool of many replicas sustains more than its replicas one by one, so a type is rated as the smallest pool that
    serves the peak: the highest rate of that pool, over its rungs.
    """

    def __init__(
        self,
        scenario: Scenario,
        peak_per_s: float,
        prices: Prices,
        tolerance: float,
        note: Note,
        most_rungs: Callable[[Layout], int] = lambda _layout: MOST_RUNGS,
    ) -> None:
        """peak_per_s: of the demand; tolerance: of rates; most_rungs: of a layout that there may be."""
        self._scenario, self._peak_per_s, self._prices = scenario, peak_per_s, prices
        self._tolerance, self._note, self._most_rungs = tolerance, note, most_rungs
        self._requests = requests_at(scenario.workload, scenario.seed, peak_per_s)
        self.simulations = 0

    def rate(self, layouts: Sequence[Layout]) -> tuple[list[Rated], dict[str, str]]:
        """One a node type that can serve at all, and why the others cannot."""
        best: dict[str, Rated] = {}
        why: dict[str, str] = {}
        bounded = []
        for number, layout in enumerate(layouts):
            self._note(f"{layout.name}: proving ({number + 1} of {len(layouts)})")
            bound = self._bound(layout)
            if isinstance(bound, str):
                _explain(why, layout.node.name, bound)
            else:
                bounded.append(bound)
        bounded.sort(key=lambda one: (one.first * self._usd_per_h(one.layout), -one.most_per_s))
        for number, bound in enumerate(bounded):
            name = bound.layout.node.name
            self._note(f"{bound.layout.name}: highest rate ({number + 1} of {len(bounded)})")
            found = self._rated(bound, best.get(name))
            if isinstance(found, str):
                _explain(why, name, found)
            elif found is not None:
                best[name] = found
        return list(best.values()), {name: reason for name, reason in why.items() if name not in best}

    def _usd_per_h(self, layout: Layout) -> float:
        price = self._prices.usd_per_gpu_h(layout.gpu.variation_of or layout.gpu.name)
        assert price is not None
        return price * layout.gpus(1)

    def _bound(self, layout: Layout) -> _Bound | str:
        """What the price model allows; why, where it can serve nothing."""
        if self._most_rungs(layout) < 1:
            return "none are allowed"
        try:
            one = layout.scenario(self._scenario, 1)
            needed = replicas_needed(RequestWork(one, self._requests), one.slo, self._tolerance)
        except ImpossibleError as error:
            return str(error)
        if math.isinf(needed.replicas):
            return needed.reason
        first = math.ceil(needed.count / layout.replicas_a_rung)
        return _Bound(layout, first, self._peak_per_s / needed.replicas * layout.replicas_a_rung)

    def _rated(self, bound: _Bound, known: Rated | None) -> Rated | str | None:
        """A layout's rating if it is better than the one that is known; None if not, and why if it serves nothing."""
        layout, usd = bound.layout, self._usd_per_h(bound.layout)
        most = self._most_rungs(layout)
        if known is not None:
            known_usd = known.peak_usd_per_h(self._peak_per_s)
            if (bound.first * usd, usd / bound.most_per_s) >= (known_usd, known.usd_per_h / known.capacity_per_s):
                return None
            most = min(most, int(known_usd / usd * (1.0 + ROUNDING)))
        rungs = self._least(layout, min(bound.first, most), most)
        if rungs is None and known is not None:
            return None
        pool = rungs or most
        rate, reason = self._highest(layout, pool, holds_peak=rungs is not None)
        if not rate > 0.0:
            return reason
        found = Rated(layout, rate / pool, usd, pool)
        return found if known is None or self._rank(found) < self._rank(known) else None

    def _rank(self, one: Rated) -> tuple[float, float]:
        return one.peak_usd_per_h(self._peak_per_s), one.usd_per_h / one.capacity_per_s

    def _least(self, layout: Layout, first: int, most: int) -> int | None:
        """Rungs of the smallest pool that serves the peak, more being taken to do no worse; None: not even the most."""
        low, rung = first - 1, first
        while not self._serves_peak(layout, rung):
            if rung == most:
                return None
            low, rung = rung, min(most, max(rung + 1, int(rung * STRIDE)))
        while rung - low > 1:
            middle = (low + rung) // 2
            low, rung = (low, middle) if self._serves_peak(layout, middle) else (middle, rung)
        return rung

    def _serves_peak(self, layout: Layout, rungs: int) -> bool:
        self.simulations += 1
        scenario = layout.scenario(self._scenario, rungs)
        return judge(scenario, self._requests, growth_allowed=self._tolerance).met

    def _highest(self, layout: Layout, rungs: int, *, holds_peak: bool) -> tuple[float, str]:
        """Of a pool, and why where there is none."""
        scenario = layout.scenario(self._scenario, rungs)
        search = RateSearch(scenario, self._tolerance)

        def holds(rate: float) -> bool:
            return holds_peak if rate == self._peak_per_s else search.keeps(scenario.seed, rate)

        kept, broken = search.highest(holds, self._peak_per_s, NEAR if holds_peak else 2.0)
        self.simulations += search.simulations
        if kept == 0.0:
            words = verdict_words(search.last, scenario.slo.percentile) if search.last is not None else ""
            return 0.0, f"even {broken:.3g} requests/s: {words}"
        return kept, ""


def _explain(why: dict[str, str], node: str, reason: str) -> None:
    """Keep why a node type cannot serve: of its layouts, one that fits tells more than one that does not."""
    if node not in why or "does not fit" in why[node]:
        why[node] = reason
