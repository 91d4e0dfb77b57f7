"""The pictures of a serving run, as plain functions from frames to figures; colours are safe for the colour-blind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from app.log_axis import duration_text, log_axis
from sim.result import Result
from sim.scenario import SloSection
from sim.stored_run import StoredRun

# Okabe and Ito (2008), "Color Universal Design"
BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
BOUND_COLOURS = {"compute": BLUE, "memory": ORANGE, "network": GREEN, "host": RED, "idle": "#DDDDDD"}
MAX_POINTS = 2000  # drawn of a curve or a cloud
FEW = 30  # points that are drawn one by one
SLICES = 400  # of time
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Panel:
    """A column of the steps over time."""

    column: str
    label: str
    colour: str
    factor: float = 1.0
    tickformat: str = ""


def figures(result: Result | StoredRun) -> dict[str, go.Figure]:
    """Title to figure, in the order of reading."""
    requests, steps, summary = result.requests, result.steps, result.summary
    slo, replicas = result.scenario.slo, engines(result)
    each = f", mean of {replicas} replicas (band: least to most)" if replicas > 1 else ""
    return {
        "Latency of requests": latency_cdfs(requests, slo),
        "Time to first token over the run": ttft_over_time(requests, slo.ttft_s),
        f"What a step held{each}": batch_over_time(steps, replicas),
        f"KV cache and queue{each}": kv_over_time(steps, summary["kv_blocks"], replicas),
        "What bounded the time": bottleneck_shares(summary["bound_by"]),
        **row_power(result),
        **scaled_power(result),
    }


def engines(result: Result | StoredRun) -> int:
    """Replicas of any tensor parallelism that a run had."""
    own = result.scenario.serving.replicas
    return max(own, int(result.steps["replica"].max()) + 1) if "scaler" in result.summary and len(result.steps) else own


def scaled_power(result: Result | StoredRun) -> dict[str, go.Figure]:
    """The picture of replicas that come and go, where they do."""
    from app.scaled_figures import scaled_over_time

    return {"Replicas by load": scaled_over_time(result.power)} if "scaler" in result.summary else {}


def row_power(result: Result | StoredRun) -> dict[str, go.Figure]:
    """The picture of a metered row, where there is one."""
    from app.power_figures import row_over_time

    found, section = result.summary.get("power"), result.scenario.power
    if found is None or section is None:
        return {}
    return {"Power of the row against its limit": row_over_time(result.power, result.requests, found, section)}


def latency_cdfs(requests: pd.DataFrame, slo: SloSection) -> go.Figure:
    """Share of the served requests within a latency, with the limits of the SLO as dashed lines."""
    curves = [
        ("max_tbt_s", "longest TBT", ORANGE, slo.tbt_s),
        ("ttft_s", "TTFT", BLUE, slo.ttft_s),
        ("e2e_s", "E2E", GREEN, slo.e2e_s),
    ]
    if slo.tpot_s is not None:
        curves.insert(0, ("tpot_s", "TPOT", PURPLE, slo.tpot_s))
    figure = go.Figure()
    shown: list[Floats] = []
    for key, name, colour, limit in curves:
        values = np.sort(requests[key].to_numpy(dtype=float))
        values = values[np.isfinite(values) & (values > 0)]
        if not len(values):
            continue
        at = sample(len(values))
        mode = "lines" if len(values) > FEW else "lines+markers"
        figure.add_scatter(x=values[at], y=(at + 1) / len(values), mode=mode, line_color=colour, name=name)
        shown.append(values[[0, -1]])
        if limit is not None:
            figure.add_vline(x=limit, line={"dash": "dash", "color": colour, "width": 1.5})
            figure.add_annotation(
                x=float(np.log10(limit)), y=1.0, yref="paper", yanchor="bottom", showarrow=False,
                text=f"{duration_text(limit)}", font={"color": colour, "size": 12},
            )  # fmt: skip
            shown.append(np.asarray([limit]))
    if not shown:
        return nothing(figure, "no request was served")
    figure.update_xaxes(title_text="latency", **log_axis(np.concatenate(shown)))
    figure.update_yaxes(title_text="share of requests", tickformat=".0%", range=[0, 1.03])
    return styled(figure, 340)


def ttft_over_time(requests: pd.DataFrame, limit_s: float | None) -> go.Figure:
    """TTFT of requests (a sample) by arrival, and median and p99 of each group of neighbours where there are enough."""
    order = np.argsort(requests["arrival_s"].to_numpy(), kind="stable")
    arrival, ttft = requests["arrival_s"].to_numpy()[order], requests["ttft_s"].to_numpy(dtype=float)[order]
    known = np.isfinite(ttft) & (ttft > 0)
    arrival, ttft = arrival[known], ttft[known]
    figure = go.Figure()
    if not len(arrival):
        return nothing(figure, "no request was served")
    some = sample(len(arrival))
    cloud: dict[str, Any] = {"size": 3 if len(some) > 300 else 6, "color": SKY}
    figure.add_scatter(
        x=arrival[some], y=ttft[some], mode="markers", marker=cloud, opacity=0.6, name="a request", showlegend=True
    )
    groups = np.array_split(np.arange(len(arrival)), min(100, len(arrival) // 100)) if len(arrival) >= 200 else []
    for name, colour, percent in (("p50", BLUE, 50), ("p99", RED, 99)) if groups else ():
        figure.add_scatter(
            x=[arrival[group].mean() for group in groups],
            y=[np.percentile(ttft[group], percent) for group in groups],
            mode="lines", line_color=colour, name=name,
        )  # fmt: skip
    values = ttft if limit_s is None else np.append(ttft, limit_s)
    if limit_s is not None:
        figure.add_hline(y=limit_s, line={"dash": "dash", "color": RED, "width": 1.5})
        figure.add_annotation(
            x=1.0, xref="paper", xanchor="right", y=float(np.log10(limit_s)), yanchor="bottom", showarrow=False,
            text=f"SLO {duration_text(limit_s)}", font={"color": RED, "size": 12},
        )  # fmt: skip
    figure.update_xaxes(title_text="arrival, s", range=_time_range(float(arrival[-1])))
    figure.update_yaxes(title_text="TTFT", **log_axis(values))
    return styled(figure, 320)


def batch_over_time(steps: pd.DataFrame, replicas: int) -> go.Figure:
    """Decoding sequences and prompt tokens of a step, averaged over slices of time; 0 while idle."""
    sequences = Panel("decode_seqs", "decoding sequences", BLUE)
    return _over_time(steps, [sequences, Panel("prefill_tokens", "prompt tokens", ORANGE)], replicas)


def kv_over_time(steps: pd.DataFrame, blocks: int, replicas: int) -> go.Figure:
    """KV blocks in use as a share of all, and requests waiting, averaged over slices of time; 0 while idle."""
    used = Panel("kv_blocks", "KV blocks in use", GREEN, 1.0 / blocks, ".3~%")
    return _over_time(steps, [used, Panel("waiting", "requests waiting", RED)], replicas)


def bottleneck_shares(bound_by: dict[str, float | None]) -> go.Figure:
    """One bar: the shares of stage time by bound, idle included; they sum to all of it."""
    figure = go.Figure()
    for name, colour in BOUND_COLOURS.items():
        share = bound_by[f"{name}_fraction"]
        if share is not None and share > 0.0005:
            figure.add_bar(
                x=[share], y=[""], orientation="h", name=f"{name} {share:.0%}", marker_color=colour,
                text=f"{share:.0%}" if share >= 0.04 else "", textposition="inside",
                insidetextanchor="middle", textangle=0, showlegend=True,
            )  # fmt: skip
    if not figure.data:
        return nothing(figure, "nothing ran")
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(visible=False, range=[0, 1])
    figure.update_yaxes(visible=False)
    return styled(figure, 140)


def time_means(steps: pd.DataFrame, column: str, replicas: int, edges: Floats) -> Floats:
    """Time-weighted means of a column between edges of time, 0 while idle: (replicas, slices).

    Micro-batches in flight at once (lanes) are averaged: each is a step of its own.
    """
    means = np.zeros((replicas, len(edges) - 1))
    busy = np.zeros_like(means)
    for _, lane in steps.groupby(["replica", "lane"]):
        replica = int(lane["replica"].iloc[0])
        means[replica] += _integrals(lane, lane[column].to_numpy(dtype=float), edges)
        busy[replica] += _integrals(lane, np.ones(len(lane)), edges)
    means /= np.maximum(busy, np.diff(edges))
    return means


def _integrals(lane: pd.DataFrame, values: Floats, edges: Floats) -> Floats:
    """Integral of a value that holds during each of a lane's runs, between edges: (slices,)."""
    order = np.argsort(lane["start_s"].to_numpy(), kind="stable")
    start = lane["start_s"].to_numpy()[order]
    duration = lane["duration_s"].to_numpy()[order]
    grown = np.cumsum(duration * values[order])
    knots = np.maximum.accumulate(np.column_stack([start, start + duration]).ravel())
    integral = np.column_stack([np.concatenate([[0.0], grown[:-1]]), grown]).ravel()
    return np.diff(np.interp(edges, knots, integral))


def _over_time(steps: pd.DataFrame, panels: list[Panel], replicas: int) -> go.Figure:
    """Panels above each other on one time axis."""
    if not len(steps):
        return nothing(go.Figure(), "nothing ran")
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.12)
    end = float((steps["start_s"] + steps["duration_s"]).max())
    edges = np.linspace(0.0, end, SLICES + 1)
    for number, panel in enumerate(panels, start=1):
        means = panel.factor * time_means(steps, panel.column, replicas, edges)
        if replicas > 1:
            _add_band(figure, edges, means, panel.colour, number)
        line = {"shape": "hv", "color": panel.colour, "width": 1.5}
        y = np.append(means.mean(axis=0), np.nan)
        figure.add_scatter(x=edges, y=y, mode="lines", line=line, name=panel.label, row=number, col=1)
        top = 1.05 * float(means.max()) or 1.0
        figure.update_yaxes(title_text=panel.label, range=[0, top], tickformat=panel.tickformat, row=number, col=1)
    figure.update_xaxes(range=_time_range(end))
    figure.update_xaxes(title_text="time, s", row=len(panels), col=1)
    return styled(figure, 200 * len(panels)).update_layout(showlegend=False)


def _add_band(figure: go.Figure, edges: Floats, means: Floats, colour: str, row: int) -> None:
    """Shade from the least to the most of the replicas."""
    common: dict[str, Any] = {
        "mode": "lines",
        "line": {"shape": "hv", "width": 0, "color": colour},
        "hoverinfo": "skip",
    }
    figure.add_scatter(x=edges[:-1], y=means.min(axis=0), row=row, col=1, **common)
    figure.add_scatter(x=edges[:-1], y=means.max(axis=0), fill="tonexty", row=row, col=1, **common)


def sample(count: int) -> NDArray[np.int64]:
    """Up to MAX_POINTS indices, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(np.int64))


def _time_range(end_s: float) -> list[float]:
    return [-0.01 * end_s, 1.01 * end_s] if end_s > 0 else [-0.5, 0.5]


def nothing(figure: go.Figure, text: str) -> go.Figure:
    """An empty picture that says why it is empty."""
    figure.add_annotation(text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font_size=15)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return styled(figure, 120)


def styled(figure: go.Figure, height: int) -> go.Figure:
    """The same look for every picture; height in pixels."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 15, "t": 40, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.06, "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
    )
    figure.update_xaxes(automargin=True, ticks="outside", ticklen=6, tickcolor="#ccc", title_font_size=12)
    return figure.update_yaxes(automargin=True, title_font_size=12)
