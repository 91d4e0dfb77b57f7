"""A row's watts against its limit, who was slowed meanwhile, and what the users of each priority felt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures import BLUE, GREEN, MAX_POINTS, ORANGE, RED, styled
from app.log_axis import log_axis
from sim.power_section import PowerSection

SLOWED = {"low_clock_mhz": ("low priority slowed", ORANGE), "high_clock_mhz": ("high priority slowed", BLUE)}
BINS = 60  # of the run, each with a percentile
FEWEST = 20  # requests of a bin


def row_over_time(
    power: pd.DataFrame, requests: pd.DataFrame, summary: dict[str, Any], section: PowerSection
) -> go.Figure:
    """Watts of the row above, p99 of end-to-end latency by priority below, spans of locked clocks behind both."""
    row = power[power["scope"] == "row"]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.6, 0.4])
    limit_kw = summary["row_limit_w"] / 1e3
    shown = row.iloc[_drawn(row["watts"].to_numpy(float))]
    figure.add_scatter(
        x=shown["t_s"], y=shown["watts"] / 1e3, mode="lines", line={"color": "#222222", "width": 1.2}, name="row",
        row=1, col=1,
    )  # fmt: skip
    _add_training(figure, power[power["scope"] == "training"])
    for label, level, colour in _levels(section):
        figure.add_hline(y=level * limit_kw, line={"dash": "dash", "color": colour, "width": 1.3}, row=1, col=1)
        figure.add_annotation(
            x=1.0, xref="paper", xanchor="right", y=level * limit_kw, yref="y", yanchor="bottom", showarrow=False,
            text=label, font={"color": colour, "size": 12},
        )  # fmt: skip
    for column, (label, colour) in SLOWED.items():
        _add_spans(figure, row, row[column].notna().to_numpy(), label, colour)
    _add_spans(figure, row, row["brake"].to_numpy(bool), "power brake", RED)
    drawn = _add_percentiles(figure, requests)
    figure.update_yaxes(title_text="row, kW", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="E2E p99", **(log_axis(drawn) if len(drawn) else {}), row=2, col=1)
    figure.update_xaxes(title_text="time, s", row=2, col=1)
    return styled(figure, 480)


def _add_training(figure: go.Figure, training: pd.DataFrame) -> None:
    """The share of the row that trains, and in the legend how far its clock went down; nothing where nobody trains."""
    if training.empty:
        return
    shown = training.iloc[_drawn(training["watts"].to_numpy(float))]
    clocks = training["training_clock_mhz"]
    figure.add_scatter(
        x=shown["t_s"], y=shown["watts"] / 1e3, mode="lines", fill="tozeroy", line={"color": GREEN, "width": 1.0},
        name=f"of it training, {clocks.min():,.0f} to {clocks.max():,.0f} MHz", customdata=shown["training_clock_mhz"],
        hovertemplate="%{y:.1f} kW at %{customdata:,.0f} MHz", row=1, col=1,
    )  # fmt: skip


def _levels(section: PowerSection) -> list[tuple[str, float, str]]:
    keys = section.policy.keys
    thresholds = [("T1", keys.get("t1_fraction", 0.8)), ("T2", keys.get("t2_fraction", 0.89))]
    if section.policy.name == "shared_budget":
        thresholds = [("somebody pays", keys.get("cap_fraction", 0.89))]
    shown = section.policy.name in ("polca", "shared_budget")
    found = [(name, float(level), ORANGE) for name, level in thresholds if shown]
    return [("limit", 1.0, RED), *found]


def _drawn(watts: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Readings to draw: all, or the highest and the lowest of each group."""
    if len(watts) <= MAX_POINTS:
        return np.arange(len(watts))
    groups = np.array_split(np.arange(len(watts)), MAX_POINTS // 2)
    return np.unique([group[pick(watts[group])] for group in groups for pick in (np.argmin, np.argmax)])


def _add_spans(figure: go.Figure, row: pd.DataFrame, held: Any, label: str, colour: str) -> None:
    """Shade the time in which something held, with one entry in the legend."""
    if not held.any():
        return
    t_s = row["t_s"].to_numpy(float)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        figure.add_vrect(
            x0=t_s[start], x1=t_s[min(end, len(t_s) - 1)], fillcolor=colour, opacity=0.13, line_width=0, layer="below"
        )
    figure.add_scatter(
        x=[None], y=[None], mode="markers", marker={"symbol": "square", "size": 12, "color": colour, "opacity": 0.4},
        name=label, row=1, col=1,
    )  # fmt: skip


def _add_percentiles(figure: go.Figure, requests: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Lines of p99 by arrival, one a priority; returns what was drawn."""
    drawn: list[float] = []
    for low, name, colour in ((False, "high priority", BLUE), (True, "low priority", ORANGE)):
        chosen = requests[(requests["priority"] > 0) == low].dropna(subset=["e2e_s"]).sort_values("arrival_s")
        bins = min(BINS, len(chosen) // FEWEST)
        if not bins:
            continue
        groups = np.array_split(np.arange(len(chosen)), bins)
        arrival, e2e = chosen["arrival_s"].to_numpy(float), chosen["e2e_s"].to_numpy(float)
        p99 = [float(np.percentile(e2e[group], 99)) for group in groups]
        drawn += p99
        figure.add_scatter(
            x=[arrival[group].mean() for group in groups], y=p99, mode="lines", line_color=colour, name=name,
            row=2, col=1,
        )  # fmt: skip
    return np.array(drawn)
