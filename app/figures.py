"""The pictures of a serving run, as plain functions from frames to plotly figures; colours are safe for the colour-blind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from sim.result import Result

# Okabe and Ito (2008), "Color Universal Design"
BLUE, ORANGE, GREEN, RED, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#999999"
BOUND_COLOURS = {"compute": BLUE, "memory": ORANGE, "network": GREEN, "host": RED, "idle": "#DDDDDD"}
MAX_POINTS = 4000
Floats = NDArray[np.float64]


def figures(result: Result) -> dict[str, go.Figure]:
    """Title to figure, in the order of reading."""
    return {
        "Latency of requests": latency_cdfs(result),
        "Time to first token over the run": ttft_over_time(result),
        "What each step held": batch_over_time(result.steps),
        "KV cache and queue": kv_over_time(result.steps, result.summary["kv_blocks"]),
        "What bounded the time": bottleneck_shares(result),
    }


def latency_cdfs(result: Result) -> go.Figure:
    """Share of requests within a latency, for TTFT, longest TBT and E2E, with the SLO limits."""
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, subplot_titles=("TTFT", "longest TBT", "E2E"))
    slo = result.scenario.slo
    limits = {"ttft_s": slo.ttft_s, "max_tbt_s": slo.tbt_s, "e2e_s": slo.e2e_s}
    for column, (key, limit) in enumerate(limits.items(), start=1):
        values = np.sort(result.request_columns[key])
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        at = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS)).astype(int))
        figure.add_trace(
            go.Scatter(x=values[at], y=(at + 1) / len(values), mode="lines", line_color=BLUE, showlegend=False),
            row=1,
            col=column,
        )
        if limit is not None:
            figure.add_vline(x=limit, line_dash="dash", line_color=RED, row=1, col=column)
        figure.update_xaxes(title_text="seconds", type="log", row=1, col=column)
    figure.update_yaxes(title_text="share of requests", row=1, col=1, range=[0, 1.02])
    return _styled(figure, 330)


def ttft_over_time(result: Result) -> go.Figure:
    """TTFT of each request (a sample) and the running median and p99, by arrival."""
    arrival, ttft = result.request_columns["arrival_s"], result.request_columns["ttft_s"]
    known = np.isfinite(ttft)
    arrival, ttft = arrival[known], ttft[known]
    figure = go.Figure()
    if not len(arrival):
        return _styled(figure, 300)
    sample = np.unique(np.linspace(0, len(arrival) - 1, min(len(arrival), MAX_POINTS)).astype(int))
    figure.add_scattergl(
        x=arrival[sample], y=ttft[sample], mode="markers", marker={"size": 3, "color": SKY}, opacity=0.5, name="a request"
    )
    window = pd.Series(ttft).rolling(max(20, len(ttft) // 100), center=True, min_periods=1)
    for name, colour, values in (("p50", BLUE, window.median()), ("p99", RED, window.quantile(0.99))):
        figure.add_scatter(x=arrival[sample], y=values.to_numpy()[sample], mode="lines", line_color=colour, name=name)
    if result.scenario.slo.ttft_s is not None:
        figure.add_hline(y=result.scenario.slo.ttft_s, line_dash="dash", line_color=RED, annotation_text="SLO")
    figure.update_xaxes(title_text="arrival, s")
    figure.update_yaxes(title_text="TTFT, s", type="log")
    return _styled(figure, 300)


def batch_over_time(steps: pd.DataFrame) -> go.Figure:
    """Decoding sequences and prompt tokens a step, averaged over equal slices of time."""
    time_s, (decode, prefill) = _time_means(steps, ("decode_seqs", "prefill_tokens"))
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_scatter(x=time_s, y=decode, line_shape="hv", line_color=BLUE, name="decoding sequences")
    figure.add_scatter(
        x=time_s, y=prefill, line_shape="hv", line_color=ORANGE, name="prompt tokens a step", secondary_y=True
    )
    figure.update_xaxes(title_text="time, s")
    figure.update_yaxes(title_text="sequences", rangemode="tozero", secondary_y=False)
    figure.update_yaxes(title_text="tokens", rangemode="tozero", showgrid=False, secondary_y=True)
    return _styled(figure, 300)


def kv_over_time(steps: pd.DataFrame, blocks: int) -> go.Figure:
    """KV blocks in use as a share of all, and requests waiting, averaged over equal slices of time."""
    time_s, (used, waiting) = _time_means(steps, ("kv_blocks", "waiting"))
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_scatter(x=time_s, y=used / blocks, line_shape="hv", line_color=GREEN, name="KV blocks in use")
    figure.add_scatter(x=time_s, y=waiting, line_shape="hv", line_color=RED, name="requests waiting", secondary_y=True)
    figure.update_xaxes(title_text="time, s")
    figure.update_yaxes(title_text="share of KV blocks", tickformat=".0%", range=[0, 1.02], secondary_y=False)
    figure.update_yaxes(title_text="requests", rangemode="tozero", showgrid=False, secondary_y=True)
    return _styled(figure, 300)


def bottleneck_shares(result: Result) -> go.Figure:
    """One bar: the shares of stage time by bound, idle included; they sum to all of it."""
    figure = go.Figure()
    for name, colour in BOUND_COLOURS.items():
        share = result.summary["bound_by"][f"{name}_fraction"]
        if share is not None:
            figure.add_bar(
                x=[share], y=["time"], orientation="h", name=name, marker_color=colour, text=f"{share:.0%}"
            )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    return _styled(figure, 180)


def _time_means(steps: pd.DataFrame, columns: tuple[str, ...], slices: int = 600) -> tuple[Floats, list[Floats]]:
    """Start of each slice of time and the time-weighted means of columns in it; NaN where nothing ran."""
    start, duration = steps["start_s"].to_numpy(), steps["duration_s"].to_numpy()
    end = float((start + duration).max()) if len(steps) else 1.0
    edges = np.linspace(0.0, end, slices + 1)
    # integrals up to each edge, by interpolation of cumulative sums over steps (replicas are averaged)
    order = np.argsort(start)
    middle = start[order] + 0.5 * duration[order]
    index = np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, slices - 1)
    weight = np.bincount(index, weights=duration[order], minlength=slices)
    means = []
    for column in columns:
        total = np.bincount(index, weights=duration[order] * steps[column].to_numpy()[order], minlength=slices)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(np.asarray(total / weight))
    return edges[:-1], means


def _styled(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        template="simple_white",
        height=height,
        margin={"l": 60, "r": 60, "t": 40, "b": 45},
        legend={"orientation": "h", "y": 1.12, "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
