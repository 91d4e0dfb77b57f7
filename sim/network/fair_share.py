"""Flows that share links max-min fairly, re-rated as flows come and go.

Links that could carry all their flows at full speed bind nobody: flows that share only such links do not feel each
other, so that a change touches the flows it can reach over crowded links alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf, ulp

import simpy
from simpy.events import EventPriority

from hardware_models.errors import FleetcastError
from hardware_models.topology.max_min import max_min_rates, weighted_rates
from policies.task_graph import Link, Transfer

__all__ = ["FairNetwork", "max_min_rates"]

LAST = EventPriority(2)  # priority of events that come after all others of their instant (SimPy's own are 0 and 1)
ROUNDING_ULPS = 64  # flows whose ends differ by so little end together


class _AtEnd(simpy.Event):
    """An event of the end of an instant, after whatever else happens then."""

    def __init__(self, env: simpy.Environment, delay_s: float, call: Callable[[], None]) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        self.callbacks.append(lambda _event: call())
        env.schedule(self, priority=LAST, delay=delay_s)


@dataclass(slots=True, eq=False)
class _Flow:
    """A transfer whose bytes are under way."""

    number: int
    uses: dict[int, float]  # link -> times that it crosses it
    alone_bytes_per_s: float  # rate on idle links
    left_bytes: float
    done: simpy.Event
    rate: float = 0.0
    since_s: float = 0.0
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
        return sum(flow.uses[link] * flow.alone_bytes_per_s for flow in self.flows.values()) > self.bytes_per_s


class FairNetwork:
    """Links that transfers share.

    The clock may run on past the last transfer's end, to a moment at which one would have ended at an earlier rate.
    """

    def __init__(
        self,
        env: simpy.Environment,
        links: Sequence[Link],
        observe: Callable[[Stretch], None] | None = None,
    ) -> None:
        """Observe: told of each stretch of a transfer at one rate, as it ends."""
        for number, link in enumerate(links):
            if not 0.0 < link.bytes_per_s < inf:
                raise FleetcastError(f"link {number}, {link.name}: {link.bytes_per_s} bytes/s; give a positive rate")
        self._env, self._observe = env, observe
        self._capacities = [link.bytes_per_s for link in links]
        self._links: dict[int, _LinkState] = {}
        self._count = 0
        self._changed: dict[int, None] = {}  # links that flows came to or left in this instant
        self._new: list[_Flow] = []  # flows that came in this instant
        self._ends: list[tuple[float, int, int, _Flow]] = []
        self._settling = False
        self._alarm_s = inf

    @property
    def flowing(self) -> int:
        """Transfers whose bytes are under way."""
        return len({number for link in self._links.values() for number in link.flows})

    def transfer(self, transfer: Transfer) -> simpy.Event:
        """An event that triggers when the bytes have arrived: after the latency and, from then on, the time that they
        take at the rates they get. Raises FleetcastError for links that are not there and for negative figures.
        """
        number, self._count = self._count, self._count + 1
        done = self._env.event()
        flow = self._flow(number, transfer, done)
        if transfer.latency_s > 0.0:
            self._env.timeout(transfer.latency_s).callbacks.append(lambda _event: self._start(flow))
        else:
            self._start(flow)
        return done

    def _flow(self, number: int, transfer: Transfer, done: simpy.Event) -> _Flow:
        uses: dict[int, float] = {}
        for link in transfer.links:
            if not 0 <= link < len(self._capacities):
                raise FleetcastError(f"transfer {number}: link {link} is none of the {len(self._capacities)}")
            uses[link] = uses.get(link, 0.0) + 1.0
        if not (0.0 <= transfer.size_bytes < inf and 0.0 <= transfer.latency_s < inf):
            raise FleetcastError(
                f"transfer {number}: {transfer.size_bytes} bytes after {transfer.latency_s} s; neither may be negative"
            )
        alone = min((self._capacities[link] / times for link, times in uses.items()), default=inf)
        return _Flow(number, uses, alone, transfer.size_bytes, done)

    def _start(self, flow: _Flow) -> None:
        """The first byte is there: the flow joins its links."""
        if not flow.uses or flow.left_bytes == 0.0:
            flow.done.succeed()
            return
        flow.since_s = self._env.now
        self._new.append(flow)
        for link in flow.uses:
            if link not in self._links:
                self._links[link] = _LinkState(self._capacities[link])
            self._links[link].flows[flow.number] = flow
        self._change(flow)

    def _change(self, flow: _Flow) -> None:
        """Rates are set anew at the end of this instant, once for all that happens in it."""
        for link in flow.uses:
            self._changed[link] = None
        if not self._settling:
            self._settling = True
            _AtEnd(self._env, 0.0, self._settle)

    def _settle(self) -> None:
        self._settling = False
        touched: list[_LinkState] = []
        for link in self._changed:
            state = self._links[link]
            before, state.crowded = state.crowded, state.now_crowded(link)
            if before or state.crowded:
                touched.append(state)
        flows = self._reached(touched)
        flows |= {flow.number: flow for flow in self._new}
        self._changed.clear()
        self._new.clear()
        self._rerate([flows[number] for number in sorted(flows)])
        self._arm()

    def _reached(self, states: Iterable[_LinkState]) -> dict[int, _Flow]:
        """Flows on some links, and all that share crowded links with these."""
        found: dict[int, _Flow] = {}
        ahead = [flow for state in states for flow in state.flows.values()]
        seen: set[int] = set()
        while ahead:
            flow = ahead.pop()
            if flow.number in found:
                continue
            found[flow.number] = flow
            for link in flow.uses:
                if link not in seen and self._links[link].crowded:
                    seen.add(link)
                    ahead += self._links[link].flows.values()
        return found

    def _rerate(self, flows: list[_Flow]) -> None:
        """Give some flows, which share crowded links with no others, their fair rates."""
        uses = [{link: times for link, times in flow.uses.items() if self._links[link].crowded} for flow in flows]
        rates = weighted_rates(uses, self._capacities, [flow.alone_bytes_per_s for flow in flows])
        for flow, rate in zip(flows, rates, strict=True):
            if rate != flow.rate:
                self._advance(flow)
                flow.rate = rate
                flow.version += 1
                end_s = flow.since_s + flow.left_bytes / rate
                heappush(self._ends, (end_s, flow.number, flow.version, flow))

    def _advance(self, flow: _Flow) -> None:
        """Count the bytes that have flowed since the rate was set."""
        now_s = self._env.now
        if now_s > flow.since_s:
            if self._observe is not None:
                self._observe(Stretch(flow.number, flow.since_s, now_s, flow.rate))
            flow.left_bytes = max(0.0, flow.left_bytes - flow.rate * (now_s - flow.since_s))
            flow.since_s = now_s

    def _arm(self) -> None:
        """Wake up when the next flow ends, unless an alarm for no later is set already."""
        while self._ends and self._ends[0][2] != self._ends[0][3].version:
            heappop(self._ends)
        if self._ends and self._ends[0][0] < self._alarm_s:
            end_s = self._ends[0][0]
            self._alarm_s = end_s
            _AtEnd(self._env, max(0.0, end_s - self._env.now), lambda: self._ring(end_s))

    def _ring(self, alarm_s: float) -> None:
        """End the flows whose time has come."""
        if alarm_s != self._alarm_s:
            return  # an earlier one was set after it
        self._alarm_s = inf
        limit_s = self._env.now + ROUNDING_ULPS * ulp(self._env.now)
        while self._ends and (self._ends[0][0] <= limit_s or self._ends[0][2] != self._ends[0][3].version):
            _, _, version, flow = heappop(self._ends)
            if version == flow.version:
                self._end(flow)
        self._arm()

    def _end(self, flow: _Flow) -> None:
        self._advance(flow)
        flow.version = -1
        for link in flow.uses:
            del self._links[link].flows[flow.number]
        self._change(flow)
        flow.done.succeed()


def carried_bytes(stretches: Iterable[Stretch]) -> dict[int, float]:
    """Transfer -> bytes that its stretches carried."""
    carried: dict[int, float] = {}
    for stretch in stretches:
        span_s = stretch.end_s - stretch.start_s
        carried[stretch.transfer] = carried.get(stretch.transfer, 0.0) + stretch.bytes_per_s * span_s
    return carried
