"""The pictures of a training plan, from its plan.json: what a longer step buys in memory, energy and GPUs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, sample, styled

HEIGHT = 400
GREY = "#C4C8CC"
AXES = {  # name: the column, by what it is divided, the title
    "memory": ("peak_bytes", 1e9, "memory of the fullest GPU, GB"),
    "energy": ("energy_j_per_step", 1e6, "energy of a step, MJ"),
    "GPUs": ("gpus", 1.0, "GPUs"),
}
FAR = 2.0  # times the best step: what takes longer is not drawn
SIMULATED = "simulated"


def scatters(found: dict[str, Any]) -> list[str]:
    """Names of AXES that tell plans apart: all have the same GPUs unless several numbers were asked for."""
    several = len({row["gpus"] for row in _rows(found)}) > 1
    return [name for name in AXES if name != "GPUs" or several]


def step_against(found: dict[str, Any], name: str, plans: pd.DataFrame | None = None) -> go.Figure:
    """The best, the front and the scenario's own plan by step time and by one of AXES; plans that were not simulated
    are hollow, their step at least so long.

    plans: every plan of the space (plans.parquet), drawn grey behind them where the axis is known of all.
    """
    column, factor, title = AXES[name]
    figure = go.Figure()
    if plans is not None and column in plans:
        _add_space(figure, plans, found, column, factor)
    for label, rows, colour, size in (
        ("the front", found["front"][1:], ORANGE, 10),
        ("the best", found["best"][1:], BLUE, 10),
        ("the answer", found["best"][:1], GREEN, 15),
        ("the scenario's own", [found["own"]] if found["own"] else [], "#222222", 10),
    ):
        known = [row for row in rows if row[column] is not None]
        if not known:
            continue
        open_ones = ["circle" if row["known_by"] == SIMULATED else "circle-open" for row in known]
        figure.add_scatter(
            x=[row["step_s"] for row in known],
            y=[row[column] / factor for row in known],
            mode="markers",
            name=label,
            showlegend=True,
            marker={"color": colour, "size": size, "symbol": open_ones, "line": {"width": 2, "color": colour}},
            text=[row["plan"] for row in known],
            customdata=["" if row["known_by"] == SIMULATED else "at least " for row in known],
            hovertemplate="%{text}<br>%{customdata}%{x:.4g} s, %{y:.4g} "
            + title.rpartition(", ")[2]
            + "<extra></extra>",
        )
    if name == "memory":
        budget = found["budget_bytes"] / factor
        figure.add_hline(
            y=budget, line={"dash": "dash", "color": "#555"}, annotation_text=f"tensors may take {budget:.1f} GB",
            annotation_position="top right",
        )  # fmt: skip
    figure.update_xaxes(title="step, s")
    figure.update_yaxes(title=title, rangemode="tozero")
    return styled(figure, HEIGHT)


def _rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [*found["best"], *found["front"], *([found["own"]] if found["own"] else [])]


def _add_space(figure: go.Figure, plans: pd.DataFrame, found: dict[str, Any], column: str, factor: float) -> None:
    """Every other plan that takes no more than so many times the best step, nor the room of more than two GPUs."""
    near = plans[plans["step_s"] <= FAR * found["best"][0]["step_s"]]
    if column == "peak_bytes":
        near = near[near[column] <= 2.0 * found["budget_bytes"]]
    near = near[~near["plan"].isin([row["plan"] for row in _rows(found)])]
    if not len(near):
        return
    near = near.iloc[sample(len(near))]
    figure.add_scatter(
        x=near["step_s"],
        y=near[column] / factor,
        mode="markers",
        name="all others, at least so long",
        showlegend=True,
        marker={"color": GREY, "size": 4},
        text=near["plan"],
        hovertemplate="%{text}<br>at least %{x:.4g} s<extra></extra>",
    )
