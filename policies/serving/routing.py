"""Which replica gets a request."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np


class ReplicaView(Protocol):
    """What a router may ask of a replica at the instant of an arrival."""

    @property
    def outstanding(self) -> int:
        """Requests routed here and not finished."""

    def kv_blocks_in_use(self, now_s: float) -> int:
        """KV blocks taken, and those that waiting requests will take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Sends each request to one of the replicas; subclasses say how."""

    asks_replicas: ClassVar[bool] = False  # does the choice depend on the replicas' state?

    def route(
        self, order: int, session: int, replicas: Seq[ReplicaView], now_s: float, random: np.random.Generator
    ) -> int:
        """Index of the replica for the order-th arrival, of a session (-1: none)."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRobin(Router):
    """In turn."""

    def route(
        self, order: int, session: int, replicas: Seq[ReplicaView], now_s: float, random: np.random.Generator
    ) -> int:
        """The next replica."""
        return order % len(replicas)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomRouter(Router):
    """Evenly at random."""

    def route(
        self, order: int, session: int, replicas: Seq[ReplicaView], now_s: float, random: np.random.Generator
    ) -> int:
        """Any replica."""
        return int(random.integers(len(replicas)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAffinity(Router):
    """Every request of a session to one replica; requests without a session in turn."""

    def route(
        self, order: int, session: int, replicas: Seq[ReplicaView], now_s: float, random: np.random.Generator
    ) -> int:
        """The session's replica, spread by a multiplicative hash (Knuth, TAOCP vol. 3, 6.4)."""
        if session < 0:
            return order % len(replicas)
        return ((session * 2_654_435_769) % (1 << 32)) * len(replicas) >> 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastOutstanding(Router):
    """To the replica with the fewest unfinished requests; among equals the first."""

    asks_replicas: ClassVar[bool] = True

    def route(
        self, order: int, session: int, replicas: Seq[ReplicaView], now_s: float, random: np.random.Generator
    ) -> int:
        """The least loaded by count."""
        loads = [replica.outstanding for replica in replicas]
        return loads.index(min(loads))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastKv(Router):
    """To the replica with the fewest KV blocks taken or asked for; among equals the first."""

    asks_replicas: ClassVar[bool] = True

    def route(
        self, order: int, session: int, replicas: Seq[ReplicaView], now_s: float, random: np.random.Generator
    ) -> int:
        """The least loaded by memory."""
        loads = [replica.kv_blocks_in_use(now_s) for replica in replicas]
        return loads.index(min(loads))
