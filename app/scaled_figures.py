"""Replicas that come and go: GPUs held by tensor parallelism, what all GPUs draw, and the mean clock, over time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures import BLUE, GREEN, MAX_POINTS, ORANGE, PURPLE, RED, SKY, styled

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)


def scaled_over_time(power: pd.DataFrame) -> go.Figure:
    """GPUs held above, kW in the middle, MHz of the GPUs held below."""
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.44, 0.32, 0.24]
    )  # fmt: skip
    sizes = power[power["scope"] == "tensor_parallel_size"]
    for colour, (size, rows) in zip(COLOURS, sizes.groupby("id"), strict=False):
        shown = _thinned(rows)
        if shown["gpus_held"].max() > 0.0:
            figure.add_scatter(
                x=shown["t_s"], y=shown["gpus_held"], mode="lines", stackgroup="gpus", name=f"TP{size}",
                line={"shape": "vh", "width": 0.5, "color": colour}, row=1, col=1,
            )  # fmt: skip
    cluster = _thinned(power[power["scope"] == "cluster"])
    for row, (values, label) in enumerate(
        ((cluster["watts"] / 1e3, "GPUs, kW"), (cluster["clock_mhz"], "clock, MHz")), start=2
    ):
        figure.add_scatter(
            x=cluster["t_s"], y=values, mode="lines", line={"color": "#222222", "width": 1.2}, showlegend=False,
            row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(title_text=label, rangemode="tozero", row=row, col=1)
    figure.update_yaxes(title_text="GPUs held", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title_text="time, s", row=3, col=1)
    return styled(figure, 480)


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of neighbours, where there are more rows than are drawn."""
    each = -(-len(rows) // MAX_POINTS)
    if each < 2:
        return rows
    return rows.groupby(np.arange(len(rows)) // each)[["t_s", "gpus_held", "watts", "clock_mhz"]].mean()
