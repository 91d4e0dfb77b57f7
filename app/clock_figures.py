"""The clock of every pass of a step, where [power] chooses them: a row a stage, a column a micro-batch."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures import styled
from policies.parallelism.schedules import FORWARD
from sim.metrics import plain
from sim.training.clock_account import NOBODY

MOST_STAGES = 12  # that a line of text names


def clock_pictures(power: dict[str, Any]) -> dict[str, go.Figure]:
    """Title to figure, from a summary's power; none where all passes run as fast as they may."""
    clocks = power.get("stage_clocks", {"name": NOBODY})
    return {} if clocks["name"] == NOBODY else {"Clocks of passes, by stage and micro-batch": clocks_of_passes(clocks)}


def clocks_of_passes(clocks: dict[str, Any]) -> go.Figure:
    """One panel a kind of pass, all on one scale of MHz."""
    kinds = {kind: clocks["mhz"][kind] for kind in sorted(clocks["mhz"], key=lambda kind: kind != FORWARD)}
    figure = make_subplots(
        rows=1, cols=len(kinds), subplot_titles=[kind.replace("_", " of ") for kind in kinds], shared_yaxes=True,
        horizontal_spacing=0.04,
    )  # fmt: skip
    for number, (kind, rows) in enumerate(kinds.items(), start=1):
        heat = go.Heatmap(
            z=rows, y=[f"stage {stage}" for stage in range(len(rows))], coloraxis="coloraxis", xgap=1, ygap=1,
            hovertemplate=f"{kind} of micro-batch %{{x}}, %{{y}}: %{{z:,.0f}} MHz<extra></extra>",
        )  # fmt: skip
        figure.add_trace(heat, row=1, col=number)
        figure.update_xaxes(title_text="micro-batch", row=1, col=number)
    figure.update_yaxes(autorange="reversed")
    styled(figure, 150 + 26 * max(len(rows) for rows in kinds.values()))
    figure.update_layout(coloraxis={"colorscale": "Viridis", "colorbar": {"title": "MHz"}})
    return figure


def clocks_line(clocks: dict[str, Any]) -> str:
    """For a terminal: each stage's mean clock, what is saved and what it costs."""
    stages = clocks["stages"]
    means = [f"{row['mean_mhz']:,.0f}" for row in stages[:MOST_STAGES]]
    more = f" and {len(stages) - MOST_STAGES} more" if len(stages) > MOST_STAGES else ""
    return (
        f"{'stage clocks':<26}{plain(1e2 * clocks['saved_fraction']):>14} % of the GPUs' joules saved,"
        f" {clocks['slowdown_fraction']:+.1%} of the step; stages' means {' '.join(means)}{more} MHz"
    )
