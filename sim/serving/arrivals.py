"""Brings requests to engines: beforehand where the router asks nobody, else at the instant of each arrival."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

import numpy as np
import simpy

from policies.serving import ReplicaView
from sim.serving.inbox import NEVER
from workloads.request import RequestTable


class Destination(ReplicaView, Protocol):
    """An engine as arrivals see it."""

    def deliver(self, index: int, now_s: float) -> None:
        """Take a request at its arrival."""


class Places(Protocol):
    """Who says where a request goes."""

    def replica(self, index: int, replicas: Sequence[ReplicaView], now_s: float, random: np.random.Generator) -> int:
        """Of a request, at its arrival; asked in order of arrival."""


def assign(requests: RequestTable, placement: Places, replicas: int, random: np.random.Generator) -> list[list[int]]:
    """Requests of each replica, in order of arrival, for a router that asks nobody."""
    assigned: list[list[int]] = [[] for _ in range(replicas)]
    if replicas == 1:
        return [list(range(len(requests)))]
    blind: Sequence[ReplicaView] = [_Blind()] * replicas
    for index, now_s in enumerate(requests.arrival_s.tolist()):
        assigned[placement.replica(index, blind, now_s, random)].append(index)
    return assigned


class _Blind:
    """A replica about which nothing may be asked."""

    @property
    def outstanding(self) -> int:
        raise AssertionError("this router declared that it asks no replica")

    def kv_blocks_in_use(self, now_s: float) -> int:
        raise AssertionError("this router declared that it asks no replica")


class ArrivalProcess:
    """Routes each request when it arrives."""

    def __init__(
        self, environment: simpy.Environment, requests: RequestTable, placement: Places, random: np.random.Generator
    ) -> None:
        self.next_s = float(requests.arrival_s[0])
        self._environment = environment
        self._requests = requests
        self._placement = placement
        self._random = random

    def start(self, replicas: Sequence[Destination]) -> None:
        """Begin to deliver to these engines."""
        self._environment.process(self._deliver(replicas))

    def _deliver(self, replicas: Sequence[Destination]) -> Generator[simpy.Event, Any, None]:
        env, placement = self._environment, self._placement
        arrival_s = self._requests.arrival_s.tolist()
        arrival_s.append(NEVER)
        index = 0
        while arrival_s[index] < NEVER:
            now_s = arrival_s[index]
            yield env.timeout(max(0.0, now_s - env.now))
            while arrival_s[index] == now_s:  # all of one instant, before anybody acts on the first
                chosen = placement.replica(index, replicas, now_s, self._random)
                index += 1
                self.next_s = arrival_s[index]
                replicas[chosen].deliver(index - 1, now_s)
