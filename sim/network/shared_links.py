"""Flows that share links max-min fairly, re-rated as flows come and go, on whatever clock calls.

Links that could carry all their flows at full speed bind nobody: flows that share only such links do not feel each
other, so that a change touches the flows it can reach over crowded links alone. Where few flows are under way, their
rates are looked up: flows over the same links in the same order always get the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf, ulp

from hardware_models.errors import FleetcastError
from hardware_models.topology.max_min import weighted_rates
from policies.task_graph import Link

ROUNDING_ULPS = 64  # flows whose ends differ by so little end together
FEW = 12  # flows whose rates are remembered by what they cross

AtEnd = Callable[
    [float, Callable[[float], None]], object
]  # call with the time, so many seconds on, after all else then


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """What flows over the same links have in common."""

    number: int
    uses: dict[int, float]  # link -> times that it is crossed
    alone_bytes_per_s: float  # rate on idle links


@dataclass(slots=True, eq=False)
class _Flow:
    """A transfer whose bytes are under way."""

    number: int
    way: Way
    left_bytes: float
    done: Callable[[], object]
    since_s: float
    rate: float = 0.0
    version: int = 0  # of its rate: ends foretold at earlier ones are void


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time during which a transfer had one rate."""

    transfer: int  # in the order of the calls
    start_s: float
    end_s: float
    bytes_per_s: float


@dataclass(slots=True)
class _LinkState:
    """A link's flows, in order of arrival, and whether they could fill it."""

    bytes_per_s: float
    flows: dict[int, _Flow] = field(default_factory=dict)
    crowded: bool = False

    def now_crowded(self, link: int) -> bool:
        """Could its flows, each as fast as if alone, ask for more than it has?"""
        if len(self.flows) <= 1:
            return False
        asked = sum(flow.way.uses[link] * flow.way.alone_bytes_per_s for flow in self.flows.values())
        return asked > self.bytes_per_s


class SharedLinks:
    """Who flows over which links, how fast, and until when."""

    def __init__(self, links: Sequence[Link], at_end: AtEnd, observe: Callable[[Stretch], None] | None = None) -> None:
        """Observe: told of each stretch of a transfer at one rate, as it ends. Raises FleetcastError for dead links."""
        for number, link in enumerate(links):
            if not 0.0 < link.bytes_per_s < inf:
                raise FleetcastError(f"link {number}, {link.name}: {link.bytes_per_s} bytes/s; give a positive rate")
        self._at_end, self._observe = at_end, observe
        self._capacities = [link.bytes_per_s for link in links]
        self._ways: dict[tuple[int, ...], Way] = {}
        self._flows: dict[int, _Flow] = {}  # in order of arrival
        self._known: dict[tuple[int, ...], list[float]] = {}  # rates of few flows by their ways
        self._links: dict[int, _LinkState] | None = None  # None: few flow, and nobody asks which links they crowd
        self._changed: dict[int, None] = {}  # links that flows came to or left in this instant
        self._new: list[_Flow] = []  # flows that came in this instant
        self._ends: list[tuple[float, int, int, _Flow]] = []
        self._settling = False
        self._alarm_s = inf

    @property
    def flowing(self) -> int:
        """Transfers whose bytes are under way."""
        return len(self._flows)

    def way(self, transfer: int, links: tuple[int, ...]) -> Way:
        """What a transfer, known by a number, crosses; raises FleetcastError for a link that is not there."""
        found = self._ways.get(links)
        if found is None:
            uses: dict[int, float] = {}
            for link in links:
                if not 0 <= link < len(self._capacities):
                    raise FleetcastError(f"transfer {transfer}: link {link} is none of the {len(self._capacities)}")
                uses[link] = uses.get(link, 0.0) + 1.0
            alone = min((self._capacities[link] / times for link, times in uses.items()), default=inf)
            found = self._ways[links] = Way(len(self._ways), uses, alone)
        return found

    def start(self, now_s: float, number: int, way: Way, size_bytes: float, done: Callable[[], object]) -> None:
        """The first byte is there: the flow joins its links, and `done` is called when the last has arrived."""
        if not way.uses or size_bytes == 0.0:
            done()
            return
        flow = self._flows[number] = _Flow(number, way, size_bytes, done, now_s)
        if self._links is not None:
            self._new.append(flow)
            self._join(self._links, flow)
        self._change(flow)

    def _join(self, links: dict[int, _LinkState], flow: _Flow) -> None:
        for link in flow.way.uses:
            if link not in links:
                links[link] = _LinkState(self._capacities[link])
            links[link].flows[flow.number] = flow

    def _change(self, flow: _Flow) -> None:
        """Rates are set anew at the end of this instant, once for all that happens in it."""
        if self._links is not None:
            self._changed.update(dict.fromkeys(flow.way.uses))
        if not self._settling:
            self._settling = True
            self._at_end(0.0, self._settle)

    def _settle(self, now_s: float) -> None:
        self._settling = False
        if len(self._flows) <= FEW:
            self._links = None
            flows = list(self._flows.values())
            key = tuple([flow.way.number for flow in flows])
            rates = self._known.get(key)
            if rates is None:
                rates = self._known[key] = self._alike([flow.way for flow in flows])
        else:
            flows, links = self._touched()
            crowded = [[link for link in flow.way.uses if links[link].crowded] for flow in flows]
            rates = self._fair([flow.way for flow in flows], crowded)
        self._changed.clear()
        self._new.clear()
        self._rerate(now_s, flows, rates)
        self._arm(now_s)

    def _alike(self, ways: list[Way]) -> list[float]:
        """Rates of all flows there are, by what they cross."""
        asked: dict[int, float] = {}
        flows: dict[int, int] = {}
        for way in ways:
            for link, times in way.uses.items():
                asked[link] = asked.get(link, 0.0) + times * way.alone_bytes_per_s
                flows[link] = flows.get(link, 0) + 1
        crowded = {link for link in asked if flows[link] > 1 and asked[link] > self._capacities[link]}
        return self._fair(ways, [[link for link in way.uses if link in crowded] for way in ways])

    def _fair(self, ways: list[Way], crowded: list[list[int]]) -> list[float]:
        """Rates of flows that share crowded links with no others."""
        uses = [{link: way.uses[link] for link in links} for way, links in zip(ways, crowded, strict=True)]
        return weighted_rates(uses, self._capacities, [way.alone_bytes_per_s for way in ways])

    def _touched(self) -> tuple[list[_Flow], dict[int, _LinkState]]:
        """Flows whose rates may change, by number, and all links: new ones, and those that a change reaches over
        crowded links.
        """
        links = self._links
        if links is None:  # many flow again
            links = self._links = {}
            for flow in self._flows.values():
                self._join(links, flow)
            self._changed.update(dict.fromkeys(links))
            self._new += self._flows.values()
        states: list[_LinkState] = []
        for link in self._changed:
            state = links[link]
            before, state.crowded = state.crowded, state.now_crowded(link)
            if before or state.crowded:
                states.append(state)
        flows = self._reached(links, states)
        flows |= {flow.number: flow for flow in self._new}
        return [flows[number] for number in sorted(flows)], links

    @staticmethod
    def _reached(links: dict[int, _LinkState], states: Iterable[_LinkState]) -> dict[int, _Flow]:
        """Flows on some links, and all that share crowded links with these."""
        found: dict[int, _Flow] = {}
        ahead = [flow for state in states for flow in state.flows.values()]
        seen: set[int] = set()
        while ahead:
            flow = ahead.pop()
            if flow.number in found:
                continue
            found[flow.number] = flow
            for link in flow.way.uses:
                if link not in seen and links[link].crowded:
                    seen.add(link)
                    ahead += links[link].flows.values()
        return found

    def _rerate(self, now_s: float, flows: list[_Flow], rates: list[float]) -> None:
        for flow, rate in zip(flows, rates, strict=True):
            if rate != flow.rate:
                self._advance(now_s, flow)
                flow.rate = rate
                flow.version += 1
                heappush(self._ends, (flow.since_s + flow.left_bytes / rate, flow.number, flow.version, flow))

    def _advance(self, now_s: float, flow: _Flow) -> None:
        """Count the bytes that have flowed since the rate was set."""
        if now_s > flow.since_s:
            if self._observe is not None:
                self._observe(Stretch(flow.number, flow.since_s, now_s, flow.rate))
            flow.left_bytes = max(0.0, flow.left_bytes - flow.rate * (now_s - flow.since_s))
            flow.since_s = now_s

    def _arm(self, now_s: float) -> None:
        """Wake up when the next flow ends, unless an alarm for no later is set already."""
        ends = self._ends
        while ends and ends[0][2] != ends[0][3].version:
            heappop(ends)
        if ends and ends[0][0] < self._alarm_s:
            delay_s = max(0.0, ends[0][0] - now_s)
            self._alarm_s = now_s + delay_s  # as the clock will have it
            self._at_end(delay_s, self._ring)

    def _ring(self, now_s: float) -> None:
        """End the flows whose time has come."""
        if now_s != self._alarm_s:
            return  # an earlier one was set after it
        self._alarm_s = inf
        limit_s = now_s + ROUNDING_ULPS * ulp(now_s)
        ends = self._ends
        while ends and (ends[0][0] <= limit_s or ends[0][2] != ends[0][3].version):
            _, _, version, flow = heappop(ends)
            if version == flow.version:
                self._end(now_s, flow)
        self._arm(now_s)

    def _end(self, now_s: float, flow: _Flow) -> None:
        self._advance(now_s, flow)
        flow.version = -1
        del self._flows[flow.number]
        if self._links is not None:
            for link in flow.way.uses:
                del self._links[link].flows[flow.number]
        self._change(flow)
        flow.done()


def carried_bytes(stretches: Iterable[Stretch]) -> dict[int, float]:
    """Transfer -> bytes that its stretches carried."""
    carried: dict[int, float] = {}
    for stretch in stretches:
        span_s = stretch.end_s - stretch.start_s
        carried[stretch.transfer] = carried.get(stretch.transfer, 0.0) + stretch.bytes_per_s * span_s
    return carried
