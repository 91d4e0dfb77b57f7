"""Experts loaded by need: who is evicted, who computes what, and how routing repeats itself."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.offload.expert_cache import CACHES
from policies.offload.expert_schedule import LayerTimes, Schedule, schedule
from workloads.generators.expert_activation import ActivationLaw, ExpertActivation, loads

POPULARITY = np.array([[3.0, 2.0, 1.0, 0.0], [-1.0, -2.0, -3.0, -4.0]])
EVEN = np.zeros((1, 4))


@pytest.mark.parametrize(
    ("name", "left"),
    [("static", {0, 1}), ("lru", {1, 3}), ("lfu", {0, 3}), ("lifo", {1, 3}), ("score", {0, 1})],
)
def test_each_cache_evicts_by_its_own_rule(name: str, left: set[int]) -> None:
    cache = CACHES[name](2, POPULARITY)
    assert {tuple(one) for one in np.argwhere(cache.held)} == {(0, 0), (0, 1)}
    for used in (0, 0, 1):
        cache.note(0, {used: 1}, EVEN)
    cache.note(0, {3: 1}, EVEN)
    cache.admit(0, 3)
    assert {int(one) for one in np.flatnonzero(cache.held[0])} == left
    assert cache.held.sum() == 2


def test_pinned_experts_stay_and_a_cache_of_pinned_ones_takes_nothing_in() -> None:
    cache = CACHES["lru"](2, POPULARITY)
    cache.pinned[0, :2] = True
    assert not cache.admit(1, 0)
    assert cache.has(0, 0)


TIMES = LayerTimes(cpu_s=lambda tokens: 1.0 + 0.1 * tokens, gpu_s=lambda tokens: 0.1, copy_s=1.5)


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.integers(0, 15), st.integers(1, 9), min_size=1), st.sets(st.integers(0, 15)))
def test_every_expert_has_one_worker_and_both_together_beat_either(visits: dict[int, int], cached: set[int]) -> None:
    plans = {how: schedule(how, visits, cached, TIMES) for how in get_args(Schedule)}
    for plan in plans.values():
        assert sorted([*plan.cached, *plan.moved, *plan.on_cpu]) == sorted(visits)
        assert plan.link_end_s == pytest.approx(1.5 * len(plan.moved))
    slack = max(map(TIMES.cpu_s, visits.values()))  # greedy, so at most one expert worse
    assert plans["hybrid"].end_s <= min(plans["cpu"].end_s, plans["copy"].end_s) + slack
    assert not plans["hybrid"].moved or min(visits[one] for one in plans["hybrid"].moved) >= max(
        (visits[one] for one in plans["hybrid"].on_cpu), default=0
    )


def test_routing_repeats_as_mixtral_s_does_and_depends_on_the_seed_alone() -> None:
    def choices(seed: int, **law: float) -> np.ndarray:
        scores = ExpertActivation(ActivationLaw(**law), 40, 8, 4, seed).next(30).reshape(30, 4, 40, 8)
        return np.asarray(np.argsort(-scores, axis=-1)[..., :2])

    def repeated(chosen: np.ndarray) -> float:
        return float((chosen[:-1, ..., :, None] == chosen[1:, ..., None, :]).any((-1, -2)).mean())

    assert (choices(1) == choices(1)).all()
    assert (choices(1) != choices(2)).any()
    assert repeated(choices(0)) == pytest.approx(0.64, abs=0.03)
    by_chance = repeated(choices(0, skew=0.0, topic=0.0, locality=0.0))
    assert by_chance == pytest.approx(1 - 15 / 28, abs=0.02)  # of 28 pairs, 15 have none of two


def test_gates_asked_early_name_most_experts_and_fewer_the_earlier() -> None:
    activation = ExpertActivation(ActivationLaw(), 4, 32, 1, 3)
    scores = activation.next(64)

    def named(ahead: int) -> int:
        early = activation.early(scores, 0, ahead)
        pairs = zip(early, scores[:, ahead], strict=True)
        return sum(len(set(loads(one[None], 4)) & set(loads(other[None], 4))) for one, other in pairs)

    assert 64 * 4 > named(1) > named(3) > 64 * 4 * 4 / 32 * 2
