"""Shared links on SimPy's clock: an event for each transfer, which triggers when its bytes have arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import simpy
from simpy.events import EventPriority

from hardware_models.errors import FleetcastError
from hardware_models.topology.max_min import max_min_rates
from policies.task_graph import Link, Transfer
from sim.network.shared_links import SharedLinks, Stretch, carried_bytes

__all__ = ["FairNetwork", "Stretch", "carried_bytes", "max_min_rates"]

LAST = EventPriority(2)  # priority of events that come after all others of their instant (SimPy's own are 0 and 1)


class _AtEnd(simpy.Event):
    """An event of the end of an instant, after whatever else happens then."""

    def __init__(self, env: simpy.Environment, delay_s: float, call: Callable[[float], None]) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        self.callbacks.append(lambda _event: call(env.now))
        env.schedule(self, priority=LAST, delay=delay_s)


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
        self._env = env
        self._shared = SharedLinks(links, partial(_AtEnd, env), observe)
        self._count = 0

    @property
    def flowing(self) -> int:
        """Transfers whose bytes are under way."""
        return self._shared.flowing

    def transfer(self, transfer: Transfer) -> simpy.Event:
        """An event that triggers when the bytes have arrived: after the latency and, from then on, the time that they
        take at the rates they get. Raises FleetcastError for links that are not there and for negative figures.
        """
        number, self._count = self._count, self._count + 1
        way = self._shared.way(number, transfer.links)
        if not (0.0 <= transfer.size_bytes < inf and 0.0 <= transfer.latency_s < inf):
            raise FleetcastError(
                f"transfer {number}: {transfer.size_bytes} bytes after {transfer.latency_s} s; neither may be negative"
            )
        done = self._env.event()

        def start(_event: simpy.Event | None = None) -> None:
            self._shared.start(self._env.now, number, way, transfer.size_bytes, done.succeed)

        if transfer.latency_s > 0.0:
            self._env.timeout(transfer.latency_s).callbacks.append(start)
        else:
            start()
        return done
