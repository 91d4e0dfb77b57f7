"""Scaling on the clock: what load each pool has, how many engines of which tensor parallelism it gets, and when."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import simpy
from numpy.typing import NDArray

from policies.power.energy_per_load import joined, units
from policies.power.packing import Place, pack
from policies.power.scaler import Demand, PoolPlan, Scaler, Terms
from sim.power.engine_states import EngineStates
from sim.power.scaled_placement import ScaledPlacement
from sim.power_section import PowerSection
from workloads.request import RequestTable

MOST_ARRIVALS = 1000  # of a load; of more, the latest, or the first of the busiest


class Load:
    """Requests by class and time, as they come."""

    def __init__(self, requests: RequestTable, classes: NDArray[np.int64], section: PowerSection) -> None:
        self.arrival_s = requests.arrival_s
        self._prompts, self._outputs = requests.prompt_tokens, requests.output_tokens
        self._classes, self._window_s = classes, section.scaler_window_s
        self._known = section.scaler_forecast == "known"
        self._side: Literal["left", "right"] = "left" if self._known else "right"  # what comes now is known, or came

    def demands(self, now_s: float, until_s: float, classes: int) -> dict[int, Demand] | None:
        """For which a decision is that holds until then, by class; None where no window has gone by."""
        begin_s, span_s = self._busiest(now_s, until_s) if self._known else (now_s - self._window_s, self._window_s)
        if begin_s < 0.0:
            return None
        first, last = np.searchsorted(self.arrival_s, [begin_s, begin_s + span_s], side=self._side)
        if last - first > MOST_ARRIVALS:
            if self._known and self.arrival_s[first + MOST_ARRIVALS] > begin_s:
                last = first + MOST_ARRIVALS
                span_s = float(self.arrival_s[last]) - begin_s
            elif (
                not self._known and self.arrival_s[last - MOST_ARRIVALS] < now_s
            ):  # else all of them come at this instant
                first = last - MOST_ARRIVALS
                begin_s, span_s = float(self.arrival_s[first]), begin_s + span_s - float(self.arrival_s[first])
        found: dict[int, list[tuple[float, int, int]]] = {number: [] for number in range(classes)}
        for i in range(first, last):
            arrival = float(self.arrival_s[i]) - begin_s, int(self._prompts[i]), int(self._outputs[i])
            found[int(self._classes[i])].append(arrival)
        return {number: Demand(arrivals, span_s) for number, arrivals in found.items()}

    def _busiest(self, now_s: float, until_s: float) -> tuple[float, float]:
        """Begin and length of the window with the most prompt and answer tokens to come."""
        span_s = min(self._window_s, until_s - now_s)
        tokens = np.concatenate([[0.0], np.cumsum(self._prompts + self._outputs, dtype=float)])
        starts = np.arange(now_s, max(until_s - span_s, now_s) + 1e-9, 0.25 * span_s)
        first, last = (np.searchsorted(self.arrival_s, edge, side=self._side) for edge in (starts, starts + span_s))
        return float(starts[int(np.argmax(tokens[last] - tokens[first]))]), span_s


class ScalerLoop:
    """Decides at its periods, for as long as there is work."""

    def __init__(
        self,
        env: simpy.Environment,
        section: PowerSection,
        scaler: Scaler,
        terms: Terms,
        load: Load,
        states: EngineStates,
        placement: ScaledPlacement,
        working: Callable[[], bool],
    ) -> None:
        self.states, self.placement, self.terms = states, placement, terms
        self.plans: list[tuple[float, list[PoolPlan]]] = []  # when decided
        self._env, self._section, self._scaler, self._load, self._working = env, section, scaler, load, working
        self._next_s = 0.0  # of engines, not of sharding alone
        env.process(self._decide())

    def _decide(self) -> Generator[simpy.Event, Any, None]:
        period_s, count = self._section.sharding_period_s, 0
        while self._working():
            now_s = self._env.now
            whole = now_s >= self._next_s - 1e-9
            until_s = now_s + (self._section.scaler_period_s if whole or not self.plans else period_s)
            demands = self._load.demands(now_s, until_s, self._scaler.classes)
            if demands is not None:
                plans = None if whole or not self.plans else self._sharded(demands)
                if plans is None:
                    plans = self._scaler.pools(demands, self.terms)
                    self._next_s = now_s + self._section.scaler_period_s
                self._order(plans)
            count += 1
            yield self._env.timeout(count * period_s - self._env.now)

    def _sharded(self, demands: Mapping[int, Demand]) -> list[PoolPlan] | None:
        """The pools that there are, sharded anew; None where one of them does not keep up, or where they do not fit
        side by side, since their sizes now differ: all is decided anew.
        """
        plans = []
        for plan in self.plans[-1][1]:
            found = self._scaler.sharding(plan, joined(demands[number] for number in plan.classes), self.terms)
            if found is None:
                return None
            plans.append(found)
        return plans if units(plans, self.terms) * self.terms.unit_gpus <= self.terms.gpus else None

    def _order(self, plans: list[PoolPlan]) -> None:
        self.plans.append((self._env.now, plans))
        wanted: dict[int, int] = {}
        for plan in plans:
            wanted[plan.tensor_parallel] = wanted.get(plan.tensor_parallel, 0) + plan.engines
        unit_gpus = self.terms.unit_gpus
        places = pack(wanted, self.states.present(), self.terms.gpus // unit_gpus, unit_gpus)
        self.placement.pools(*self._pools(plans, places))
        self.states.want(places)

    def _pools(self, plans: Sequence[PoolPlan], places: set[Place]) -> tuple[dict[int, int], dict[int, int]]:
        """Number of the pool of each class, and of each engine, those that serve already first."""
        of_class = {number: pool for pool, plan in enumerate(plans) for number in plan.classes}
        left, serving = sorted(places), set(self.states.serving())
        numbers = {place: number for number, place in enumerate(self.states.places)}
        left.sort(key=lambda place: numbers[place] not in serving)
        of_engine = {}
        for pool, plan in enumerate(plans):
            mine = [place for place in left if place.gpus == plan.tensor_parallel][: plan.engines]
            left = [place for place in left if place not in mine]
            of_engine.update({numbers[place]: pool for place in mine})
        return of_class, of_engine
