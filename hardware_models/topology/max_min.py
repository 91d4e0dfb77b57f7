"""Max-min fair rates by progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2).

All rates grow alike; where a link fills up, the flows on it stop growing and the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from math import inf

from hardware_models.errors import FleetcastError


def max_min_rates(paths: Sequence[Sequence[int]], capacities: Sequence[float]) -> list[float]:
    """Rate of each flow in bytes/s, in order.

    paths: links that each flow crosses, by number; one that stands there twice carries the flow twice. A flow without
    links is as fast as one likes (inf). capacities: bytes/s of each link, by number. Raises FleetcastError for a link
    without capacity.
    """
    uses: list[dict[int, float]] = []
    for path in paths:
        use: dict[int, float] = {}
        for link in path:
            use[link] = use.get(link, 0.0) + 1.0
        uses.append(use)
    return weighted_rates(uses, capacities)


def weighted_rates(
    uses: Sequence[Mapping[int, float]], capacities: Sequence[float], limits: Sequence[float] | None = None
) -> list[float]:
    """The same for flows that load each link by a multiple of their rate, and that have limits of their own.

    uses: link -> bytes that cross it for each byte of the flow (above 0). limits: most bytes/s of each flow.
    """
    filling = _Filling(uses, capacities, limits)
    return filling.run()


class _Filling:
    """The state of progressive filling; shares of links only rise, so that a heap may keep outdated ones."""

    def __init__(
        self, uses: Sequence[Mapping[int, float]], capacities: Sequence[float], limits: Sequence[float] | None
    ) -> None:
        self._uses = uses
        self._rates = [inf] * len(uses)
        self._frozen = [False] * len(uses)
        self._level = 0.0  # of those that stopped growing last; it only rises, whatever subtraction rounds off
        self._flows: dict[int, list[int]] = {}
        self._weight: dict[int, float] = {}  # of flows that still grow
        self._left: dict[int, float] = {}
        for flow, use in enumerate(uses):
            for link, weight in use.items():
                if link not in self._flows:
                    if not capacities[link] > 0.0:
                        raise FleetcastError(f"link {link}: capacity {capacities[link]} must be above 0 bytes/s")
                    self._flows[link], self._weight[link] = [], 0.0
                    self._left[link] = capacities[link]
                self._flows[link].append(flow)
                self._weight[link] += weight
        self._growing = {link: len(flows) for link, flows in self._flows.items()}
        self._heap = [(self._left[link] / self._weight[link], link) for link in self._flows]
        heapify(self._heap)
        self._limited = sorted((limit, flow) for flow, limit in enumerate(limits or ()) if limit < inf)

    def run(self) -> list[float]:
        """Rates of all flows."""
        heap, growing, next_limited = self._heap, self._growing, 0
        while heap:
            share, link = heap[0]
            if not growing[link]:
                heappop(heap)
                continue
            now = self._left[link] / self._weight[link]
            if now > share:
                heappop(heap)
                heappush(heap, (now, link))
                continue
            while next_limited < len(self._limited) and self._frozen[self._limited[next_limited][1]]:
                next_limited += 1
            if next_limited < len(self._limited) and self._limited[next_limited][0] <= share:
                self._freeze(self._limited[next_limited][1], self._limited[next_limited][0])
                continue
            heappop(heap)
            for flow in self._flows[link]:
                if not self._frozen[flow]:
                    self._freeze(flow, share)
        for limit, flow in self._limited[next_limited:]:
            if not self._frozen[flow]:
                self._rates[flow] = limit
        return self._rates

    def _freeze(self, flow: int, rate: float) -> None:
        """A flow stops growing; what it leaves of its links is the others'."""
        rate = self._level = max(rate, self._level)
        self._frozen[flow] = True
        self._rates[flow] = rate
        for link, weight in self._uses[flow].items():
            self._growing[link] -= 1
            self._weight[link] -= weight
            self._left[link] = max(0.0, self._left[link] - rate * weight)
