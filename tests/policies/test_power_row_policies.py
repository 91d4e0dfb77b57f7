"""Which clocks POLCA and its baselines order after a reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.power import ROW_POLICIES, UNLOCKED, Locks, RowView
from policies.power.one_threshold import OneThreshold
from policies.power.polca import Polca

FIRST, SECOND, THIRD = Locks(1275.0), Locks(1110.0), Locks(1110.0, 1305.0)


def view(load: float, ordered: Locks = UNLOCKED, in_effect: bool = True) -> RowView:
    return RowView(now_s=0.0, watts=load * 1000.0, limit_w=1000.0, ordered=ordered, in_effect=in_effect)


@pytest.mark.parametrize(
    ("load", "ordered", "in_effect", "expected"),
    [
        (0.79, UNLOCKED, True, UNLOCKED),
        (0.80, UNLOCKED, True, FIRST),
        (0.89, UNLOCKED, True, SECOND),
        (0.90, SECOND, False, SECOND),  # not there yet: high priority is spared
        (0.90, SECOND, True, THIRD),
        (0.86, THIRD, True, THIRD),  # within the margin
        (0.83, THIRD, True, FIRST),
        (0.76, FIRST, True, FIRST),
        (0.74, THIRD, True, UNLOCKED),
    ],
)
def test_polca_goes_up_and_down_as_published(load: float, ordered: Locks, in_effect: bool, expected: Locks) -> None:
    assert Polca().decide(view(load, ordered, in_effect)) == expected


@given(
    st.sampled_from([Polca(), OneThreshold(), OneThreshold(all_servers=True), *(k() for k in ROW_POLICIES.values())]),
    st.floats(0.0, 2.0),
    st.sampled_from([UNLOCKED, FIRST, SECOND, THIRD]),
    st.booleans(),
)
def test_a_policy_orders_only_clocks_it_names_and_never_high_priority_alone(
    policy: Polca | OneThreshold, load: float, ordered: Locks, in_effect: bool
) -> None:
    locks = policy.decide(view(load, ordered, in_effect))
    if locks != ordered:
        assert {locks.low_mhz, locks.high_mhz} <= {None, ordered.low_mhz, ordered.high_mhz, *policy.clocks_mhz}
    if locks.high_mhz is not None:
        assert locks.low_mhz is not None
    if locks.low_mhz is not None and policy.needs_low_priority and locks.high_mhz is None and locks != ordered:
        assert locks.low_mhz in policy.clocks_mhz


@given(st.floats(0.0, 1.5), st.floats(0.0, 1.5))
def test_a_higher_reading_never_frees_more(low: float, high: float) -> None:
    low, high = sorted((low, high))
    rank = [UNLOCKED, FIRST, SECOND, THIRD]
    for ordered in rank:
        decided = [Polca().decide(view(load, ordered)) for load in (low, high)]
        assert rank.index(decided[0]) <= rank.index(decided[1])
