"""Arrival processes and laws of length obey their parameters for any parameters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.generators import ARRIVALS, LENGTHS
from workloads.generators.joint import Checkerboard, gaussian_ranks
from workloads.generators.profile import Profile
from workloads.randomness import stream

RATES = st.floats(0.01, 100)
SEEDS = st.integers(0, 2**63)


def gap_cv(arrival_s):
    gaps = np.diff(arrival_s)
    return gaps.std() / gaps.mean()


def make(name, rate, shape):
    if name == "profile":
        return ARRIVALS[name](t_s=(0.0, 50.0), request_rate=(rate, 2 * rate), period_s=80.0, burstiness=shape)
    if name == "empirical":
        return ARRIVALS[name](
            request_rate=rate, probabilities=(0.1, 0.9), gaps=(0.0, 3.0), memory_fraction=0.3, memory_persistence=0.9
        )
    extra = {"gamma": {"burstiness": shape}, "weibull": {"shape": shape}}.get(name, {})
    return ARRIVALS[name](request_rate=rate, **extra)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(ARRIVALS)), rate=RATES, shape=st.floats(0.3, 5), seed=SEEDS)
def test_arrivals_are_sorted_in_time_and_a_longer_draw_begins_with_a_shorter(name, rate, shape, seed):
    law = make(name, rate, shape)
    duration_s = 300 / rate
    arrival = law.times(stream(seed, "a"), duration_s=duration_s)
    assert np.all(np.diff(arrival) >= 0)
    assert np.all((arrival >= 0) & (arrival < duration_s))
    half = law.times(stream(seed, "a"), duration_s=duration_s / 2)
    assert np.array_equal(half, arrival[arrival < duration_s / 2])
    count = max(len(arrival) // 2, 1)
    first = law.times(stream(seed, "a"), num_requests=count)
    assert first.size == count
    assert np.array_equal(first[: len(arrival)], arrival[:count][: first.size])


@settings(max_examples=20, deadline=None)
@given(rate=RATES, burstiness=st.floats(0.2, 5), seed=SEEDS)
def test_gamma_gaps_have_the_cv_of_their_burstiness_and_the_mean_of_their_rate(rate, burstiness, seed):
    count = 40_000
    arrival = ARRIVALS["gamma"](request_rate=rate, burstiness=burstiness).times(stream(seed, "a"), num_requests=count)
    cv = burstiness**-0.5
    assert gap_cv(arrival) == pytest.approx(cv, rel=6 * np.sqrt((1 + 3 * cv**2) / count))
    assert arrival[-1] * rate / count == pytest.approx(1.0, abs=6 * cv / np.sqrt(count))


def test_poisson_is_gamma_of_burstiness_one_in_law_and_constant_never_varies():
    poisson = ARRIVALS["poisson"](request_rate=3.0).times(stream(0, "a"), num_requests=50_000)
    assert gap_cv(poisson) == pytest.approx(1.0, abs=0.02)
    constant = ARRIVALS["constant"](request_rate=4.0).times(stream(0, "a"), num_requests=5)
    assert constant.tolist() == [0.25, 0.5, 0.75, 1.0, 1.25]


def test_weibull_of_shape_one_half_has_cv_root_five():
    arrival = ARRIVALS["weibull"](request_rate=2.0, shape=0.5).times(stream(1, "a"), num_requests=400_000)
    assert gap_cv(arrival) == pytest.approx(5**0.5, rel=0.03)
    assert arrival[-1] == pytest.approx(200_000, rel=0.02)


def test_empirical_gaps_keep_their_law_whatever_their_memory():
    table = {"request_rate": 5.0, "probabilities": (0.0, 0.8, 0.99, 1.0), "gaps": (0.0, 0.5, 4.0, 90.0)}
    forgetful = ARRIVALS["empirical"](**table)
    mindful = ARRIVALS["empirical"](**table, memory_fraction=0.3, memory_persistence=0.95)
    for law in (forgetful, mindful):
        arrival = law.times(stream(2, "a"), num_requests=300_000)
        assert gap_cv(arrival) == pytest.approx(law.cv(), rel=0.03)
        assert 300_000 / arrival[-1] == pytest.approx(5.0, rel=0.05)
    short = np.diff(mindful.times(stream(2, "a"), num_requests=100_000)) < 0.05
    assert np.corrcoef(short[1:], short[:-1])[0, 1] > 0.1


@settings(max_examples=50, deadline=None)
@given(
    rates=st.lists(st.floats(0, 50), min_size=2, max_size=6).filter(lambda r: max(r) > 0.1),
    at=st.lists(st.floats(0, 400), min_size=1, max_size=20),
    period=st.booleans(),
)
def test_the_warp_of_a_profile_undoes_its_integral(rates, at, period):
    profile = Profile(
        t_s=[10.0 * (i + 0.5) for i in range(len(rates))],
        request_rate=rates,
        period_s=10.0 * len(rates) if period else None,
    )
    areas = np.array([profile.integral(t) for t in sorted(at)])
    again = [profile.integral(float(t)) for t in profile.inverse(areas)]
    assert again == pytest.approx(areas.tolist(), rel=1e-6, abs=1e-6)


def test_a_day_profile_puts_requests_where_its_rate_is():
    law = ARRIVALS["profile"](t_s=(0, 43_200), request_rate=(0.0, 2.0), period_s=86_400)
    arrival = law.times(stream(3, "a"), duration_s=2 * 86_400)
    counts = np.histogram(arrival, np.arange(0, 2 * 86_401, 21_600))[0] / 21_600
    assert counts == pytest.approx([0.5, 1.5, 1.5, 0.5] * 2, rel=0.05)


LAWS = {
    "fixed": {"tokens": 7},
    "uniform": {"min_tokens": 3, "max_tokens": 90},
    "lognormal": {"p50": 200, "p99": 5000, "max_tokens": 8192},
    "empirical": {"probabilities": (0.1, 0.5, 0.9), "tokens": (4, 50, 900)},
    "zipf": {"min_tokens": 10, "max_tokens": 1000},
}


@pytest.mark.parametrize("name", sorted(LENGTHS))
@settings(max_examples=25, deadline=None)
@given(u=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50))
def test_lengths_are_positive_whole_and_rise_with_rank(name, u):
    tokens = LENGTHS[name](**LAWS[name]).at(np.sort(np.array(u)))
    assert tokens.dtype == np.int64
    assert tokens.min() >= 1
    assert np.all(np.diff(tokens) >= 0)


def test_lognormal_by_moments_and_by_quantiles():
    u = (np.arange(1_000_000) + 0.5) / 1e6
    moments = LENGTHS["lognormal"](mean=1000.0, std=500.0).at(u)
    assert moments.mean() == pytest.approx(1000, rel=2e-3)
    assert moments.std() == pytest.approx(500, rel=5e-3)
    quantiles = LENGTHS["lognormal"](p50=200, p99=5000).at(u)
    assert np.quantile(quantiles, [0.5, 0.99]) == pytest.approx([200, 5000], rel=1e-2)


def test_uniform_and_zipf_give_each_length_its_share():
    u = (np.arange(100_000) + 0.5) / 1e5
    uniform = LENGTHS["uniform"](min_tokens=1, max_tokens=4).at(u)
    assert np.bincount(uniform)[1:].tolist() == [25_000] * 4
    zipf = LENGTHS["zipf"](min_tokens=1, max_tokens=3, theta=1.0).at(u)
    assert np.bincount(zipf)[1:] / 1e5 == pytest.approx(np.array([6, 3, 2]) / 11, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, rho=st.floats(-0.95, 0.95))
def test_gaussian_ranks_stay_uniform_and_reach_their_correlation(seed, rho):
    u, w = stream(seed, "u").random(20_000), stream(seed, "w").random(20_000)
    v = gaussian_ranks(u, w, rho)
    assert np.corrcoef(u, v)[0, 1] == pytest.approx(rho, abs=0.04)
    assert np.histogram(v, 10, (0, 1))[0] == pytest.approx(2000, abs=300)


def test_a_checkerboard_keeps_both_margins_even_where_its_counts_are_uneven():
    u, w = stream(0, "u").random(100_000), stream(0, "w").random(100_000)
    v = Checkerboard([[9, 1], [2, 5]]).ranks(u, w)
    assert np.histogram(v, 10, (0, 1))[0] == pytest.approx(10_000, abs=500)
    assert np.corrcoef(u, v)[0, 1] > 0.3


def test_streams_differ_by_name_and_never_by_what_else_is_drawn():
    first = stream(7, "arrivals").random(5)
    stream(7, "other").random(100)
    assert np.array_equal(first, stream(7, "arrivals").random(5))
    assert not np.array_equal(first, stream(7, "lengths").random(5))
    assert not np.array_equal(first, stream(8, "arrivals").random(5))


def test_streams_are_the_same_on_every_platform():
    expected = [0.15631536411972913, 0.6806645423159413]
    assert stream(7, "arrivals").random(2).tolist() == pytest.approx(expected, rel=0, abs=1e-15)
