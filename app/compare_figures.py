"""Latencies of several runs on one axis: the share of requests within each time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, Floats, nothing, sample, styled
from app.log_axis import duration_text, log_axis

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
DASHES = ("solid", "dash", "dot")  # told apart where the colours begin again
LATENCIES = {"ttft_s": "TTFT", "max_tbt_s": "longest TBT", "tpot_s": "TPOT", "e2e_s": "E2E", "queue_s": "queueing"}


def compared_cdfs(requests: Mapping[str, pd.DataFrame], key: str, limits_s: Mapping[float, str]) -> go.Figure:
    """A curve a run of the latency at `key`; limits_s: limits of SLOs, with what to call them."""
    figure = go.Figure()
    shown: list[Floats] = []
    for number, (name, frame) in enumerate(requests.items()):
        values = np.sort(frame[key].to_numpy(dtype=float))
        values = values[np.isfinite(values) & (values > 0)]
        if not len(values):
            continue
        at = sample(len(values))
        line = {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number // len(COLOURS) % len(DASHES)]}
        figure.add_scatter(x=values[at], y=(at + 1) / len(values), mode="lines", line=line, name=name, showlegend=True)
        shown.append(values[[0, -1]])
    if not shown:
        return nothing(figure, f"no request has a {LATENCIES[key]}")
    for limit, name in limits_s.items():
        figure.add_vline(x=limit, line={"dash": "dash", "color": "#555", "width": 1})
        figure.add_annotation(
            x=float(np.log10(limit)), y=1.0, yref="paper", yanchor="bottom", showarrow=False,
            text=f"{name} {duration_text(limit)}", font={"color": "#555", "size": 12},
        )  # fmt: skip
        shown.append(np.asarray([limit]))
    figure.update_xaxes(title_text=LATENCIES[key], **log_axis(np.concatenate(shown)))
    figure.update_yaxes(title_text="share of requests", tickformat=".0%", range=[0, 1.03])
    styled(figure, 360 + 22 * len(requests))
    return figure.update_layout(legend={"orientation": "v", "yanchor": "bottom", "y": 1.08, "x": 0})
