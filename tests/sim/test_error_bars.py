"""Intervals against what happens when the engine really is that much slower: the same requests, served again."""

import dataclasses

import numpy as np
import pytest
from engines import LinearDecode, LinearPrefill, LinearRows, serve, table

from hardware_models.intervals import NORMAL_90
from sim.scenario import SloSection
from sim.serving.attribution import attribute
from sim.serving.error_bars import _gain, _of_distribution, _sensitivities, intervals
from sim.serving.results import request_columns
from sim.serving.row_costs import FACTORS
from sim.serving.step_cost import StageCost
from sim.serving.summary import _distribution, gap_distribution
from sim.serving.token_gaps import token_gaps

STEP = 0.03  # relative change of the engine's speed, each way
POINT = {"mean": np.nanmean, "p50": lambda v: np.nanpercentile(v, 50)}


def slower(factor: float) -> StageCost:
    """An engine all of whose times are longer by a factor."""
    decode = LinearDecode(False, 1e-4 * factor, 1e-9 * factor, 7e-8 * factor, 1e-8 * factor)
    prefill = LinearPrefill(False, 1e-4 * factor, 2e-9 * factor, 7e-8 * factor, 1e-8 * factor)
    rows = LinearRows(8e-3 * factor, 5e-5 * factor)
    return StageCost(rows, [decode], [prefill], 0, 1e-3 * factor, 1e-5 * factor, 0.0, 0.0)  # type: ignore[arg-type]


def requests(rate: float, count: int = 1200):
    random = np.random.default_rng(1)
    arrival = np.cumsum(random.exponential(1.0 / rate, count))
    return table(arrival, random.integers(50, 1500, count), random.integers(5, 400, count))


def served(rate: float, factor: float):
    cost = slower(factor)
    done = serve(requests(rate), cost=cost, blocks=20_000)
    runs = done.runs.columns()
    return request_columns(done.requests, SloSection()), runs, attribute(runs, cost, True)


def all_unsure(attribution, sigma: float = 1.0):
    """Every second errs together: one factor."""
    unsure = np.zeros((len(FACTORS), len(attribution.busy_s)))
    unsure[0] = sigma * attribution.busy_s
    return unsure


@pytest.mark.parametrize(("rate", "tolerance"), [(0.5, 0.1), (4.0, 0.15), (20.0, 0.2)])
@pytest.mark.parametrize("latency", ["ttft_s", "tpot_s", "e2e_s"])
def test_sensitivities_match_an_engine_that_is_slower(rate, tolerance, latency):
    columns, runs, attribution = served(rate, 1.0)
    more, less = (served(rate, 1.0 + sign * STEP)[0][latency] for sign in (1, -1))
    done = np.arange(len(columns["e2e_s"]))
    gain = _gain(columns, [attribution], done)
    found = _sensitivities(columns, runs, all_unsure(attribution), done, gain)
    figures = {name: float(of(columns[latency])) for name, of in POINT.items()}
    bars = _of_distribution(figures, found.values[latency], found.moves[latency])
    for name, of in POINT.items():
        measured = (of(more) - of(less)) / (2 * STEP) / figures[name]
        assert np.log(bars[name][1] / figures[name]) / NORMAL_90 == pytest.approx(measured, rel=tolerance)


def bars_of(rate: float, sigmas: dict[str, float], slo_percent: float = 50.0):
    """Intervals of a run whose factors have these standard deviations, each owning a share of every second."""
    columns, runs, attribution = served(rate, 1.0)
    unsure = np.zeros((len(FACTORS), len(attribution.busy_s)))
    for name, sigma in sigmas.items():
        unsure[FACTORS.index(name)] = sigma * attribution.busy_s / len(sigmas)
    attribution = dataclasses.replace(attribution, unsure_s=unsure)
    gaps = token_gaps(runs, np.zeros(0))
    names = ("queue_s", "ttft_s", "tpot_s", "max_tbt_s", "e2e_s")
    summary = {name: _distribution(columns[name]) for name in names}
    summary["ntpot_s"] = _distribution(columns["e2e_s"] / columns["output_tokens"])
    summary |= {"tbt_s": gap_distribution(gaps), "duration_s": 100.0, "output_throughput": 5.0}
    limit = {"limit": float(np.percentile(columns["ttft_s"], slo_percent)), "reached": 0.0, "met": True}
    summary["slo"] = {"percentile": 99.0, "met": True, "ttft_s": limit}
    met = columns["ttft_s"] <= limit["limit"]
    summary |= {"request_goodput_per_s": met.sum() / 100.0, "goodput_fraction": met.mean()}
    return summary, intervals(summary, columns, runs, [attribution])


def test_every_interval_holds_its_figure_and_grows_with_what_is_unsure():
    summary, narrow = bars_of(2.0, {"gemm": 0.02, "attention_decode": 0.02})
    _, wide = bars_of(2.0, {"gemm": 0.2, "attention_decode": 0.02})
    for name, points in narrow.items():
        pairs = points.items() if isinstance(points, dict) else [(None, points)]
        for point, (low, high) in pairs:
            figure = summary[name] if point is None else summary[name][point]
            assert low <= figure <= high
            low_wide, high_wide = wide[name] if point is None else wide[name][point]
            assert low_wide < low
            assert high_wide > high


def test_independent_factors_err_less_than_one_that_owns_all():
    _, one = bars_of(2.0, {"gemm": 0.1})
    _, two = bars_of(2.0, {"gemm": 0.1, "host": 0.1})
    for point in ("mean", "p50", "p99"):
        width = [np.log(bars["tpot_s"][point][1] / bars["tpot_s"][point][0]) for bars in (one, two)]
        assert width[1] == pytest.approx(width[0] / np.sqrt(2.0), rel=1e-9)


def test_nothing_unsure_leaves_no_interval():
    summary, bars = bars_of(2.0, {"gemm": 0.0})
    assert bars["ttft_s"]["p50"] == pytest.approx([summary["ttft_s"]["p50"]] * 2)


def test_nothing_completed_has_no_intervals():
    columns, runs, attribution = served(2.0, 1.0)
    columns["e2e_s"] = np.full(len(columns["e2e_s"]), np.nan)
    assert intervals({}, columns, runs, [attribution]) == {}


def test_watts_are_never_foretold_above_the_power_limit():
    columns, runs, attribution = served(2.0, 1.0)
    summary, _ = bars_of(2.0, {"gemm": 0.1})
    summary |= {"mean_power_w_per_gpu": 600.0, "energy_j": 60_000.0, "energy_j_per_output_token": 3.0}
    bars = intervals(summary, columns, runs, [attribution], watts_sigma=0.3, watts_limit=700.0)
    low, high = bars["mean_power_w_per_gpu"]
    assert high == pytest.approx(700.0)
    assert low == pytest.approx(600.0 * np.exp(-0.3 * NORMAL_90))
    assert bars["energy_j"][1] == pytest.approx(70_000.0)
    assert bars["energy_j_per_output_token"][1] == pytest.approx(3.5)


@pytest.mark.parametrize("percent", [5.0, 50.0, 95.0])
def test_goodput_moves_as_its_limit_is_nearer_to_the_latencies(percent):
    summary, bars = bars_of(2.0, {"gemm": 0.2}, slo_percent=percent)
    low, high = bars["goodput_fraction"]
    assert low < summary["goodput_fraction"] < high
    assert low >= 0.0
    assert high <= 1.0
    assert bars["request_goodput_per_s"][0] < summary["request_goodput_per_s"] < bars["request_goodput_per_s"][1]
