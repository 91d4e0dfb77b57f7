"""What a training step's power does over several steps: the cluster at the wall, and GPUs of some stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from app.figures import BLUE, MAX_POINTS, ORANGE, styled

STAGES = (BLUE, ORANGE)  # first and last
WORK = "#999999"


def power_over_time(power: pd.DataFrame) -> go.Figure:
    """Kilowatts at the wall above, with those that the work alone would draw where something smooths; watts of a GPU
    of the first and of the last stage below.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.55, 0.45])
    for scope, name, colour in (("work", "without smoothing", WORK), ("cluster", "cluster, at the wall", "#222222")):
        _add(figure, power[power["scope"] == scope], 1e-3, name, colour, 1)
    gpus = power[power["scope"] == "gpu"]
    count = int(gpus["id"].max()) + 1 if len(gpus) else 0
    shown = sorted({0, count - 1}) if count else []
    for stage, colour in zip(shown, STAGES, strict=False):
        _add(figure, gpus[gpus["id"] == stage], 1.0, f"a GPU of stage {stage}", colour, 2)
    figure.update_yaxes(title_text="cluster, kW", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="GPU, W", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="time, s", row=2, col=1)
    return styled(figure, 480)


def power_title(power: pd.DataFrame, step_s: float) -> str:
    """Over how many steps."""
    steps = round(float(power["t_s"].max()) / step_s)
    return f"Power over {steps} steps" if steps > 1 else "Power over a step"


def _add(figure: go.Figure, rows: pd.DataFrame, factor: float, name: str, colour: str, panel: int) -> None:
    if not len(rows):
        return
    watts = rows["watts"].to_numpy(float)
    at = _extremes(watts)
    figure.add_scatter(
        x=rows["t_s"].to_numpy(float)[at], y=factor * watts[at], mode="lines", name=name, row=panel, col=1,
        line={"color": colour, "width": 1.2, "shape": "hv"}, showlegend=True,
    )  # fmt: skip


def _extremes(watts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows to draw: all, or the first, the last, and the highest and lowest of each group."""
    if len(watts) <= MAX_POINTS:
        return np.arange(len(watts))
    groups: list[Any] = np.array_split(np.arange(len(watts)), MAX_POINTS // 2)
    picked = [group[pick(watts[group])] for group in groups for pick in (np.argmin, np.argmax)]
    return np.unique([0, *picked, len(watts) - 1])
