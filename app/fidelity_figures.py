"""Pictures of predicted against measured times: parity, and the error over the measured time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from app.log_axis import log_axis
from calibration.report.judge import BENCHMARK, FAMILY, HELD_OUT, STRANGERS, Judged
from calibration.report.markdown import CONDITIONS
from hardware_models.fits import REGIMES

MAX_POINTS = 2000  # of a picture
COLOURS = {HELD_OUT: BLUE, BENCHMARK: ORANGE, FAMILY: GREEN, STRANGERS: PURPLE}
REGIME_COLOURS = dict(zip(REGIMES, (RED, SKY, BLUE), strict=True))
TICKS = (0.1, 0.2, 0.5, 0.8, 1.0, 1.25, 2.0, 5.0, 10.0)  # predicted over measured
LEAST_RATIO, MOST_RATIO = 0.08, 12.0  # drawn; what is beyond lies on the edge
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "height": 430,
    "margin": {"l": 70, "r": 10, "t": 60, "b": 50},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "hovermode": "closest",
}
Floats = NDArray[np.float64]


def parity(judged: Sequence[Judged]) -> go.Figure:
    """Predicted over measured time, both logarithmic, a colour a part; hover shows the shape."""
    figure = go.Figure(layout=LAYOUT)
    times = []
    for one, chosen in zip(judged, _samples(judged), strict=True):
        times += [one.measured_s[chosen], one.predicted_s[chosen]]
        figure.add_scatter(
            x=_rounded(one.measured_s[chosen]),
            y=_rounded(one.predicted_s[chosen]),
            text=_shapes(one, chosen),
            hovertemplate="%{text}<br>measured %{x:.4g} s<br>predicted %{y:.4g} s<extra></extra>",
            **_dots(f"another benchmark: {one.origin}" if one.part == BENCHMARK else one.part, COLOURS[one.part]),
        )
    _legend_once(figure)
    axis = log_axis(np.concatenate(times))
    ends = [10.0**end for end in axis["range"]]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": "#555", "width": 1}, showlegend=False, hoverinfo="skip"
    )
    figure.update_xaxes(title="measured", **axis)
    figure.update_yaxes(title="predicted", **axis)
    return figure


def residuals(judged: Sequence[Judged]) -> go.Figure:
    """Predicted over measured of sizes kept out of the fits, over the measured time, a colour a regime."""
    figure = go.Figure(layout=LAYOUT)
    mine = [one for one in judged if one.part == HELD_OUT]
    times = []
    for one, chosen in zip(mine, _samples(mine), strict=True):
        times.append(one.measured_s[chosen])
        ratio = np.clip(one.predicted_s / one.measured_s, LEAST_RATIO, MOST_RATIO)
        for i, regime in enumerate(REGIMES):
            part = chosen[one.regime[chosen] == i]
            if len(part):
                figure.add_scatter(
                    x=_rounded(one.measured_s[part]),
                    y=_rounded(ratio[part]),
                    text=_shapes(one, part),
                    hovertemplate="%{text}<br>measured %{x:.4g} s<br>predicted / measured %{y:.3g}<extra></extra>",
                    **_dots(f"bound by {regime}", REGIME_COLOURS[regime]),
                )
    _legend_once(figure)
    for level, dash in ((1.0, "solid"), (1.25, "dot"), (0.8, "dot")):
        figure.add_hline(y=level, line={"color": "#555", "width": 1, "dash": dash})
    if times:
        figure.update_xaxes(title="measured", **log_axis(np.concatenate(times)))
    ratios = np.concatenate([np.asarray(trace.y, float) for trace in figure.data]) if figure.data else np.ones(1)
    low, high = np.log10(min(ratios.min(), 0.7)), np.log10(max(ratios.max(), 1.4))
    figure.update_yaxes(
        title="predicted / measured", type="log", range=[low - 0.03, high + 0.03], tickvals=TICKS, ticktext=TICKS
    )
    return figure


def as_json(figure: go.Figure) -> str:
    """A figure as text that may stand inside a script element."""
    return json.dumps(json.loads(figure.to_json()), separators=(",", ":")).replace("</", "<\\/")


def _samples(judged: Sequence[Judged]) -> list[NDArray[np.int64]]:
    """Indices of what is drawn of each, MAX_POINTS together, chosen by chance but always alike."""
    each = MAX_POINTS // max(1, len(judged))
    rng = np.random.default_rng(17)
    return [np.sort(rng.permutation(len(one.measured_s))[:each]) for one in judged]


def _shapes(one: Judged, chosen: NDArray[np.int64]) -> list[str]:
    names = [name for name in one.sizes if name not in CONDITIONS]
    columns = [one.sizes[name][chosen] for name in names]
    return [
        one.key + "<br>" + ", ".join(f"{name} {value:.10g}" for name, value in zip(names, values, strict=True))
        for values in zip(*columns, strict=True)
    ]


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _dots(name: str, colour: str) -> dict[str, Any]:
    return {
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "marker": {"size": 4, "opacity": 0.45, "color": colour},
    }


def _legend_once(figure: go.Figure) -> None:
    """Each name stands in the legend once."""
    seen: set[str] = set()
    for trace in figure.data:
        trace.showlegend = trace.name not in seen
        seen.add(trace.name)
