"""Routers choose as their names say."""

from dataclasses import dataclass

import numpy as np
import pytest

from policies.serving import ROUTERS


@dataclass
class Load:
    outstanding: int
    blocks: int

    def kv_blocks_in_use(self, now_s: float) -> int:
        return self.blocks


LOADS = [Load(5, 10), Load(2, 90), Load(2, 40)]


def route(name: str, order: int = 0, session: int = -1) -> int:
    return ROUTERS[name]().route(order, session, LOADS, 0.0, np.random.default_rng(order))


def test_round_robin_goes_in_turn():
    assert [route("round_robin", i) for i in range(4)] == [0, 1, 2, 0]


def test_least_outstanding_takes_the_first_of_the_least_loaded():
    assert route("least_outstanding") == 1


def test_least_kv_takes_the_emptiest_cache():
    assert route("least_kv") == 0


def test_session_affinity_keeps_a_session_together_and_spreads_sessions():
    chosen = [{route("session_affinity", i, session) for i in range(5)} for session in range(60)]
    assert all(len(c) == 1 for c in chosen)
    counts = np.bincount([c.pop() for c in chosen], minlength=3)
    assert counts.min() >= 10


def test_random_reaches_everybody():
    assert {route("random", i) for i in range(50)} == {0, 1, 2}


@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_stays_within_the_replicas(name):
    assert all(0 <= route(name, i, i) < 3 for i in range(30))
