from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from app.figures import (
    batch_over_time,
    bottleneck_shares,
    figures,
    kv_over_time,
    latency_cdfs,
    time_means,
    ttft_over_time,
)
from app.log_axis import duration_text, log_axis
from sim.result import Result
from sim.scenario import SloSection


def requests(count: int) -> pd.DataFrame:
    at = np.arange(count, dtype=float)
    return pd.DataFrame({"arrival_s": at, "ttft_s": 0.1 + at, "max_tbt_s": 0.02, "tpot_s": 0.01, "e2e_s": 1.0 + at})


def steps(rows: list[tuple[int, int, float, float, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["replica", "lane", "start_s", "duration_s", "decode_seqs"])
    return frame.assign(prefill_tokens=0, kv_blocks=frame["decode_seqs"], waiting=0)


def labels(figure: go.Figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


def test_cdfs_end_at_all_requests_and_show_the_limits() -> None:
    figure = latency_cdfs(requests(100), SloSection(ttft_s=2.0, tbt_s=0.1))
    assert [trace.name for trace in figure.data] == ["longest TBT", "TTFT", "E2E"]
    assert all(trace.y[-1] == 1.0 for trace in figure.data)
    assert [line.x0 for line in figure.layout.shapes] == [0.1, 2.0]
    assert labels(figure) == ["100 ms", "2 s"]
    low, high = figure.layout.xaxis.range
    assert low < np.log10(0.02)
    assert high > np.log10(100.0)


def test_the_mean_gap_is_drawn_where_the_slo_names_it() -> None:
    assert latency_cdfs(requests(3), SloSection(tpot_s=0.05)).data[0].name == "TPOT"


@pytest.mark.parametrize(("count", "curves"), [(1, 1), (50, 1), (1000, 3)])
def test_percentiles_over_time_need_enough_requests(count: int, curves: int) -> None:
    figure = ttft_over_time(requests(count), 2.0)
    assert len(figure.data) == curves
    assert labels(figure) == ["SLO 2 s"]


def test_long_runs_draw_a_sample_that_keeps_both_ends() -> None:
    cloud = ttft_over_time(requests(50_000), None).data[0]
    assert len(cloud.x) == 2000
    assert (cloud.x[0], cloud.x[-1]) == (0.0, 49_999.0)


def test_means_over_time_count_idle_time_as_zero_and_split_long_runs() -> None:
    frame = steps([(0, 0, 1.0, 2.0, 6), (0, 0, 3.5, 0.5, 4)])
    edges = np.linspace(0.0, 4.0, 5)
    assert time_means(frame, "decode_seqs", 1, edges) == pytest.approx(np.array([[0.0, 6.0, 6.0, 2.0]]))


def test_means_keep_the_integral_over_time() -> None:
    rng = np.random.default_rng(1)
    duration = rng.random(500)
    start = np.cumsum(duration + rng.random(500)) - duration
    frame = steps([(0, 0, s, d, int(n)) for s, d, n in zip(start, duration, rng.integers(0, 50, 500), strict=True)])
    edges = np.linspace(0.0, float(start[-1] + duration[-1]), 41)
    means = time_means(frame, "decode_seqs", 1, edges)
    assert (means * np.diff(edges)).sum() == pytest.approx((frame["duration_s"] * frame["decode_seqs"]).sum())


def test_micro_batches_at_once_are_steps_of_their_own() -> None:
    frame = steps([(0, 0, 0.0, 2.0, 10), (0, 1, 0.0, 2.0, 20)])
    assert time_means(frame, "decode_seqs", 1, np.array([0.0, 1.0, 2.0])) == pytest.approx(15.0)


def test_replicas_are_a_mean_within_a_band() -> None:
    frame = steps([(0, 0, 0.0, 4.0, 10), (1, 0, 0.0, 4.0, 30)])
    low, high, mean = batch_over_time(frame, 2).data[:3]
    assert (low.y[5], mean.y[5], high.y[5]) == pytest.approx((10.0, 20.0, 30.0))
    assert len(batch_over_time(frame[:1], 1).data) == 2


def test_the_kv_axis_reaches_the_peak_and_an_empty_queue_is_a_line_at_zero() -> None:
    figure = kv_over_time(steps([(0, 0, 0.0, 4.0, 10)]), 1000, 1)
    assert figure.layout.yaxis.range[1] == pytest.approx(1.05 * 0.01)
    assert figure.layout.yaxis2.range[1] == 1.0


def test_shares_leave_out_what_took_no_time() -> None:
    shares = {"compute": 0.25, "memory": 0.5, "network": 0.0, "host": 0.05, "idle": 0.2}
    figure = bottleneck_shares({f"{name}_fraction": share for name, share in shares.items()})
    assert [bar.name for bar in figure.data] == ["compute 25%", "memory 50%", "host 5%", "idle 20%"]


@pytest.mark.parametrize(
    "overrides", [(), ("serving.max_model_len=5",), ("workload.num_requests=1",), ("serving.replicas=3",)]
)
def test_every_picture_of_a_run_shows_data_or_says_why_not(
    simulate: Callable[..., Result], overrides: tuple[str, ...]
) -> None:
    for title, figure in figures(simulate(*overrides)).items():
        points = sum(
            int(np.isfinite(np.asarray(t.y, dtype=float)).sum()) if t.type != "bar" else 1 for t in figure.data
        )
        assert points or labels(figure), title


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1e-3), (0.011, 0.019), (0.01, 0.9), (1e-4, 1e3)])
def test_a_log_axis_has_a_few_readable_ticks(low: float, high: float) -> None:
    axis = log_axis(np.array([low, high]))
    assert 1 <= len(axis["tickvals"]) <= 12
    assert all(10 ** axis["range"][0] <= tick <= 10 ** axis["range"][1] for tick in axis["tickvals"])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.02, "20 ms"), (1.5, "1.5 s"), (0.001, "1 ms"), (2e-6, "2 µs"), (5000.0, "5,000 s")]
)
def test_durations_read_with_their_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
