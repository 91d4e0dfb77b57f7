"""Rows and sites: breakers that ride through, budgets, and what a site adds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.facility import breaker_trips, facility_watts, overloads, row_budget_w

STEPS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 200)), min_size=1, max_size=20)


def test_a_breaker_trips_once_an_overload_that_outlasts_the_ride_through() -> None:
    t_s = [0.0, 5.0, 15.0, 20.0, 26.0, 31.0, 40.0]
    watts = [90.0, 101.0, 100.0, 102.0, 150.0, 80.0]
    assert overloads(t_s, watts, 100.0).tolist() == [[5.0, 15.0], [20.0, 31.0]]
    assert breaker_trips(t_s, watts, 100.0, 10.0) == [30.0]  # the first lasts 10 s and no longer
    assert breaker_trips(t_s, watts, 100.0, 0.0) == [5.0, 20.0]
    assert breaker_trips(t_s, watts, 150.0, 0.0) == []


@given(STEPS, st.integers(1, 150), st.integers(0, 30), st.integers(0, 30))
def test_a_longer_ride_through_or_a_higher_limit_never_trips_more_and_every_trip_has_its_cause(
    steps: list[tuple[int, int]], limit: int, ride: int, more: int
) -> None:
    t_s = np.concatenate([[0.0], np.cumsum([length for length, _ in steps])])
    watts = np.array([w for _, w in steps])
    trips = breaker_trips(t_s, watts, limit, ride)
    assert len(breaker_trips(t_s, watts, limit, ride + more)) <= len(trips)
    assert len(trips) <= len(overloads(t_s, watts, limit))
    above = float((np.diff(t_s) * (watts > limit)).sum())
    assert float(np.diff(overloads(t_s, watts, limit)).sum()) == pytest.approx(above)
    for trip in trips:
        inside = (t_s[:-1] < trip) & (t_s[1:] > trip - ride)
        assert np.all(watts[inside & (np.diff(t_s) > 0.0)] > limit)


def test_an_instant_below_the_limit_that_lasts_no_time_saves_no_breaker() -> None:
    assert breaker_trips([0.0, 6.0, 6.0, 12.0], [200.0, 0.0, 200.0], 100.0, 10.0) == [10.0]


def test_a_row_is_built_for_its_servers_rated_watts_and_a_site_draws_its_share_more() -> None:
    assert row_budget_w(catalog.node("dgx-a100-80gb"), 40) == 40 * 6500.0
    assert facility_watts([100.0, 200.0], 1.2) == pytest.approx([120.0, 240.0])


def test_nonsense_is_refused_in_one_sentence() -> None:
    with pytest.raises(FleetcastError, match=r"^pue = 0\.9: "):
        facility_watts(100.0, 0.9)
    with pytest.raises(FleetcastError, match=r"^limit_w = -1"):
        breaker_trips([0.0, 1.0], [5.0], -1.0, 10.0)
    with pytest.raises(FleetcastError, match="rising"):
        breaker_trips([0.0, 2.0, 1.0], [5.0, 5.0], 1.0, 10.0)
    with pytest.raises(FleetcastError, match="numbers"):
        breaker_trips([0.0, 1.0], [float("nan")], 1.0, 10.0)
