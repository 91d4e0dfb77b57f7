"""Where a request goes while engines come and go: to those of its class's pool, else to others, else it waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from policies.serving import ReplicaView, Router
from workloads.request import RequestTable


class Destination(ReplicaView, Protocol):
    """An engine as it gets requests."""

    def deliver(self, index: int, now_s: float) -> None:
        """Take a request now."""


class ScaledPlacement:
    """A router's choice among the engines that serve; stands where `Placement` does."""

    def __init__(
        self,
        requests: RequestTable,
        router: Router,
        classes: Sequence[int],  # of each request
        serving: Callable[[], Sequence[int]],
        engines: int,
        random: np.random.Generator,
    ) -> None:
        self._router, self._classes, self._serving, self._engines = router, classes, serving, engines
        self._sessions = [-1] * len(requests) if requests.session is None else requests.session.tolist()
        self._routed, self._random = 0, random
        self._pool_of_class: dict[int, int] = {}
        self._pool_of_engine: dict[int, int] = {}
        self.waited = 0  # requests that came while no engine served

    def pools(self, of_class: dict[int, int], of_engine: dict[int, int]) -> None:
        """From now on; larger classes have larger numbers."""
        self._pool_of_class, self._pool_of_engine = of_class, of_engine

    def replica(self, index: int, replicas: Sequence[ReplicaView], now_s: float, random: np.random.Generator) -> int:
        """Of a request, at its arrival; the number after the last engine's where none serves."""
        serving = self._serving()
        if not serving:
            self.waited += 1
            return self._engines
        members = self._members(self._pool_of_class.get(self._classes[index], -1), serving)
        order, self._routed = self._routed, self._routed + 1
        return members[self._router.route(order, self._sessions[index], [replicas[i] for i in members], now_s, random)]

    def _members(self, pool: int, serving: Sequence[int]) -> Sequence[int]:
        """Of a pool; where none of them serves, of the next larger one, of the largest below, of any."""
        present = {self._pool_of_engine[number] for number in serving if number in self._pool_of_engine}
        if pool < 0 or not present:
            return serving
        larger, smaller = [p for p in present if p >= pool], [p for p in present if p < pool]
        chosen = min(larger) if larger else max(smaller)
        return [number for number in serving if self._pool_of_engine.get(number) == chosen]


class Lobby:
    """Holds requests that come while no engine serves; an engine as arrivals see it."""

    def __init__(self) -> None:
        self._held: list[int] = []

    @property
    def outstanding(self) -> int:
        """Requests held."""
        return len(self._held)

    def kv_blocks_in_use(self, now_s: float) -> int:
        """None."""
        return 0

    def deliver(self, index: int, now_s: float) -> None:
        """Hold a request."""
        self._held.append(index)

    def release(self) -> list[int]:
        """All that are held, in order of arrival."""
        held, self._held = self._held, []
        return held
