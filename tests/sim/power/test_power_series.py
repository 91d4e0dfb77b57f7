"""Watts over time: integrals, sums, windows, percentiles and readings are exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from sim.power.series import PowerSeries

STEPS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 1000)), min_size=1, max_size=30)  # quarters of a second


def series_of(steps: list[tuple[int, int]]) -> PowerSeries:
    return PowerSeries.of(np.concatenate([[0.0], np.cumsum([n for n, _ in steps])]) / 4, [w for _, w in steps])


def by_hand(steps: list[tuple[int, int]]) -> list[int]:
    """Watts of every quarter of a second."""
    return [w for n, w in steps for _ in range(n)]


@given(STEPS, st.integers(0, 1000), st.floats(0.0, 100.0))
def test_energy_time_above_and_percentiles_are_those_of_the_steps(
    steps: list[tuple[int, int]], threshold: int, percent: float
) -> None:
    series, quarters = series_of(steps), by_hand(steps)
    assert series.energy_j == pytest.approx(sum(quarters) / 4)
    assert series.mean_w == pytest.approx(np.mean(quarters))
    assert series.seconds_above(threshold) == sum(w > threshold for w in quarters) / 4
    least = series.percentile_w(percent)
    assert least in quarters
    assert 100.0 * sum(w <= least for w in quarters) / len(quarters) >= percent - 1e-6
    assert 100.0 * sum(w < least for w in quarters) / len(quarters) <= percent + 1e-6
    assert series.percentile_w(100.0) == max(quarters)


@given(STEPS, st.integers(1, 80), st.integers(2, 4))
def test_the_peak_over_a_window_is_the_highest_mean_and_never_above_that_over_a_part_of_it(
    steps: list[tuple[int, int]], quarters: int, times: int
) -> None:
    series, watts = series_of(steps), by_hand(steps)
    peak = series.peak_mean_w(quarters / 4)
    if quarters < len(watts):  # ends on quarters: so do the peaks
        assert peak == pytest.approx(max(np.mean(watts[i : i + quarters]) for i in range(len(watts) - quarters + 1)))
    assert min(watts) - 1e-9 <= peak <= max(watts)
    if times * quarters <= len(watts):  # not of a window in general: a longer one may hold two peaks
        assert series.peak_mean_w(times * quarters / 4) <= peak + 1e-9


def test_the_peak_may_lie_where_a_window_ends_as_well_as_where_it_starts() -> None:
    series = PowerSeries.of([0.0, 10.0, 13.0, 30.0], [100.0, 400.0, 90.0])
    assert series.peak_mean_w(6.0) == pytest.approx((3 * 100.0 + 3 * 400.0) / 6)
    mirrored = PowerSeries.of([0.0, 17.0, 20.0, 30.0], [90.0, 400.0, 100.0])
    assert mirrored.peak_mean_w(6.0) == pytest.approx(series.peak_mean_w(6.0))
    assert series.peak_mean_w(300.0) == series.mean_w


@given(st.lists(st.lists(st.integers(0, 500), min_size=1, max_size=8), min_size=1, max_size=5))
def test_a_row_draws_at_every_instant_what_its_servers_draw(levels: list[list[int]]) -> None:
    servers = [PowerSeries.of(np.linspace(0.0, 12.0, len(watts) + 1), watts) for watts in levels]
    row = PowerSeries.total(servers)
    assert row.energy_j == pytest.approx(sum(server.energy_j for server in servers))
    t_s = np.linspace(0.0, 11.99, 50)
    assert np.array_equal(row.at(t_s), sum(server.at(t_s) for server in servers))
    assert row.peak_mean_w(2.0) <= sum(server.peak_mean_w(2.0) for server in servers) + 1e-9


@given(STEPS, st.integers(1, 12), st.floats(0.0, 5.0))
def test_means_of_whole_periods_hold_all_energy_and_are_known_late(
    steps: list[tuple[int, int]], period: int, delay: float
) -> None:
    series = series_of(steps)
    known_s, watts = series.readings(period / 4, averaging_s=period / 4, delay_s=delay)
    count = len(by_hand(steps)) // period
    assert known_s == pytest.approx(period / 4 * np.arange(1, count + 1) + delay)
    assert watts.sum() * period / 4 == pytest.approx(float(series.joules(count * period / 4)), abs=1e-6)


def test_a_reading_without_averaging_sees_the_instant_before_and_one_with_waits_for_its_mean() -> None:
    series = PowerSeries.of([0.0, 2.0, 2.0, 4.0], [100.0, 900.0, 300.0])
    assert series.readings(1.0)[1].tolist() == [100.0, 100.0, 300.0, 300.0]
    known_s, watts = series.readings(1.0, averaging_s=3.0)
    assert known_s.tolist() == [3.0, 4.0]
    assert watts == pytest.approx([500.0 / 3, 700.0 / 3])
    assert len(PowerSeries.of([0.0, 0.3], [1.0]).readings(0.1)[0]) == 3
    assert series.at([0.0, 2.0, 4.0]).tolist() == [100.0, 300.0, 300.0]


@pytest.mark.parametrize(
    ("t_s", "watts", "sentence"),
    [
        ([0.0, 1.0], [1.0, 2.0], "watts of 2 intervals need 3 instants, not 2"),
        ([0.0, 2.0, 1.0], [1.0, 2.0], "rising"),
        ([0.0, 1.0], [float("inf")], "finite"),
        ([1.0, 1.0], [5.0], "longer than 0 s"),
    ],
)
def test_a_series_of_nonsense_is_refused(t_s: list[float], watts: list[float], sentence: str) -> None:
    with pytest.raises(FleetcastError, match=sentence):
        PowerSeries.of(t_s, watts)


def test_questions_of_nonsense_are_refused() -> None:
    one, other = PowerSeries.of([0.0, 1.0], [5.0]), PowerSeries.of([0.0, 2.0], [5.0])
    for ask in (
        lambda: one.peak_mean_w(0.0),
        lambda: one.percentile_w(101.0),
        lambda: one.readings(0.0),
        lambda: PowerSeries.total([one, other]),
        lambda: PowerSeries.total([]),
    ):
        with pytest.raises(FleetcastError):
            ask()
