"""Pictures of published figures against simulated ones, from the table that `app.validation.frame_of` gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, Floats
from app.log_axis import log_axis
from sim.metrics import plain

BLACK, GREY = "#222222", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BLACK)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
HOVER = "%{text}<extra></extra>"
ROW_PIXELS, HEAD_PIXELS = 46, 60
RATIO_TICKS = (0.1, 0.2, 0.33, 0.5, 0.8, 1.0, 1.25, 2.0, 3.0, 5.0, 10.0)
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": BLACK}
LEGEND = {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "itemsizing": "constant"}


def against_published(frame: pd.DataFrame, changed: pd.DataFrame | None = None) -> go.Figure:
    """A row a published figure, one panel a unit: what was published (or its range), and what was simulated, with the
    band of what the paper leaves open; figures that a fit has seen are hollow.

    changed: the same points simulated with something changed, drawn beside.
    """
    published = frame[frame["published_low"].notna()]
    units = list(dict.fromkeys(published["unit"]))
    if not units:
        return _nothing("this study publishes no figure of its own")
    counts = [int((published["unit"] == unit).sum()) for unit in units]
    figure = make_subplots(
        rows=len(units), cols=1, row_heights=[count + 0.6 for count in counts], vertical_spacing=0.13 / len(units)
    )
    for number, unit in enumerate(units, start=1):
        part = published[published["unit"] == unit]
        mine = None if changed is None else changed[changed["unit"] == unit]
        _panel(figure, part, mine, unit, number)
    height = HEAD_PIXELS + sum(ROW_PIXELS * count for count in counts) + 55 * len(units)
    figure.update_layout(
        template="plotly_white", height=height, font=FONT, legend=LEGEND, margin={"l": 12, "r": 12, "t": 45, "b": 10}
    )
    return figure


def parity(frame: pd.DataFrame) -> go.Figure:
    """Simulated over published, both logarithmic, a colour and a mark a study; bars are ranges and bands."""
    published = frame[frame["published_low"].notna()]
    if not len(published):
        return _nothing("nothing is published")
    figure = go.Figure()
    middle = _middle(published)
    for number, (study, part) in enumerate(published.groupby("study", sort=False)):
        x, y = middle.loc[part.index], part["simulated"]
        figure.add_scatter(
            x=x, y=y, mode="markers", name=_short(str(study)), text=_hover(part), hovertemplate=HOVER,
            marker=_marks_of(number, part),
            error_x=_bars(x, part["published_low"], part["published_high"]),
            error_y=_bars(y, part["low"], part["high"]),
        )  # fmt: skip
    values = np.concatenate([published[name].to_numpy(float) for name in ("low", "high", "published_low")])
    axis = _plain_log_axis(np.concatenate([values, published["published_high"].to_numpy(float)]))
    ends = [10.0**end for end in axis["range"]]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1}, showlegend=False, hoverinfo="skip"
    )
    figure.update_xaxes(title="published (s, requests/s or a ratio)", **axis)
    figure.update_yaxes(title="simulated", **axis)
    return _styled(figure, 520)


def residuals(frame: pd.DataFrame) -> go.Figure:
    """Simulated over published of every figure, a row a study; what lies right of 1 is simulated too large. A range
    counts from its nearest end.
    """
    published = frame[frame["published_low"].notna()]
    if not len(published):
        return _nothing("nothing is published")
    figure = go.Figure()
    studies = list(dict.fromkeys(published["study"]))
    for number, study in enumerate(studies):
        part = published[published["study"] == study]
        figure.add_scatter(
            x=1.0 + part["error_fraction"], y=-number + _spread(len(part)), mode="markers", showlegend=False,
            text=_hover(part), hovertemplate=HOVER, marker=_marks_of(number, part),
        )  # fmt: skip
        figure.add_annotation(**_label(_short(str(study)), -number + 0.4))
    for level, dash in ((1.0, "solid"), (1.25, "dot"), (0.8, "dot")):
        figure.add_vline(x=level, line={"color": GREY, "width": 1, "dash": dash})
    ratios = 1.0 + published["error_fraction"].to_numpy(float)
    low, high = math.log10(min(ratios.min(), 0.7)) - 0.04, math.log10(max(ratios.max(), 1.45)) + 0.04
    ticks = [tick for tick in RATIO_TICKS if low <= math.log10(tick) <= high]
    figure.update_xaxes(title="simulated / published", type="log", range=[low, high], tickvals=ticks, ticktext=ticks)
    figure.update_yaxes(visible=False, range=[-len(studies) + 0.5, 0.75])
    return _styled(figure, 70 + 58 * len(studies))


def _panel(figure: go.Figure, part: pd.DataFrame, changed: pd.DataFrame | None, unit: str, number: int) -> None:
    """The rows of one unit."""
    at = {"row": number, "col": 1}
    rows = pd.Series(-np.arange(len(part), dtype=float), index=part["point"])
    shown = [part[name].to_numpy(float) for name in ("low", "simulated", "high", "published_low", "published_high")]
    for (_, row), y in zip(part.iterrows(), rows, strict=True):
        _line(figure, _nearest(row), y, GREY, 1, at)
        _line(figure, [row["published_low"], row["published_high"]], y - 0.07, ORANGE, 7, at, "published range")
        _line(figure, [row["low"], row["high"]], y + 0.07, BLUE, 4, at, "what the paper leaves open")
        figure.add_annotation(**_label(f"{row['point']}: <b>{_error_text(row)}</b>", y + 0.36), **at)
    ends = part["published_low"] == part["published_high"]
    legend = number == 1
    figure.add_scatter(
        x=part.loc[ends, "published_low"], y=rows.to_numpy()[ends] - 0.07, mode="markers", name="published",
        marker={"symbol": "diamond", "size": 10, "color": ORANGE}, text=_hover(part[ends]), legendgroup="published",
        showlegend=legend, hovertemplate=HOVER, **at,
    )  # fmt: skip
    figure.add_scatter(
        x=part["simulated"], y=rows.to_numpy() + 0.07, mode="markers", name="simulated", text=_hover(part),
        marker=_marks(BLUE, "circle", part["in_sample"].astype(bool)), legendgroup="simulated", showlegend=legend,
        hovertemplate=HOVER, **at,
    )  # fmt: skip
    if changed is not None and len(changed := changed[changed["point"].isin(rows.index)]):
        shown.append(changed["simulated"].to_numpy(float))
        figure.add_scatter(
            x=changed["simulated"], y=rows.loc[changed["point"]].to_numpy() + 0.07, mode="markers", name="changed",
            marker={"symbol": "x", "size": 10, "color": GREEN}, showlegend=True, text=_hover(changed),
            hovertemplate=HOVER, **at,
        )  # fmt: skip
    values = np.concatenate(shown)
    axis = log_axis(values) if unit == "s" else _plain_log_axis(values, unit)
    figure.update_xaxes(**axis, **at, ticks="outside", ticklen=5, tickcolor="#ccc")
    figure.update_yaxes(visible=False, range=[-len(part) + 0.45, 0.75], **at)


def _line(
    figure: go.Figure, ends: Sequence[float], y: float, colour: str, width: int, at: dict[str, int], name: str = ""
) -> None:
    """A bar between two figures, where they differ; each name stands in the legend once."""
    if ends[1] > ends[0]:
        figure.add_scatter(
            x=list(ends), y=[y, y], mode="lines", line={"color": colour, "width": width}, opacity=0.45, name=name,
            legendgroup=name, showlegend=bool(name) and all(trace.name != name for trace in figure.data),
            hoverinfo="skip", **at,
        )  # fmt: skip


def _nearest(row: pd.Series) -> list[float]:
    """What was simulated and the nearest end of what was published, the lesser first."""
    published = min(max(row["simulated"], row["published_low"]), row["published_high"])
    return sorted((row["simulated"], published))


def _error_text(row: pd.Series) -> str:
    ranged = row["published_high"] > row["published_low"]
    text = "in range" if ranged and row["error_fraction"] == 0.0 else f"{row['error_fraction']:+.0%}"
    return f"{text}, in the fit" if row["in_sample"] else text


def _label(text: str, y: float) -> dict[str, Any]:
    """Words above a row, where they need no room at the side."""
    return {
        "x": 0.0, "xref": "x domain", "xanchor": "left", "y": y, "yanchor": "middle", "showarrow": False, "text": text,
        "align": "left", "font": {"size": 12, "color": "#444"},
    }  # fmt: skip


def _marks(colour: str, symbol: str, seen: pd.Series) -> dict[str, Any]:
    """Marks, hollow where a fit has seen the figure."""
    symbols = [f"{symbol}-open" if one else symbol for one in seen]
    return {"symbol": symbols, "size": 9, "color": colour, "line": {"width": 1.5, "color": colour}}


def _marks_of(number: int, part: pd.DataFrame) -> dict[str, Any]:
    """Of the study of a number."""
    colour, symbol = COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]
    return _marks(colour, symbol, part["in_sample"].astype(bool))


def _bars(middle: pd.Series, low: pd.Series, high: pd.Series) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "array": (high - middle).to_list(), "arrayminus": (middle - low).to_list(),
        "thickness": 1, "width": 0,
    }  # fmt: skip


def _middle(published: pd.DataFrame) -> pd.Series:
    """The figure, or the geometric middle of its range."""
    product = published["published_low"].to_numpy(float) * published["published_high"].to_numpy(float)
    return pd.Series(np.sqrt(product), index=published.index)


def _hover(part: pd.DataFrame) -> list[str]:
    found = []
    for row in part.to_dict("records"):
        said = _range_text(row["published_low"], row["published_high"], row["unit"])
        band = _range_text(row["low"], row["high"], row["unit"])
        simulated = f"{plain(row['simulated'])} {row['unit']}".strip()
        band = f" ({band})" if row["high"] > row["low"] else ""
        error = "" if math.isnan(row["error_fraction"]) else f"<br>error {row['error_fraction']:+.1%}"
        found.append(f"{row['point']}<br>published {said}<br>simulated {simulated}{band}{error}")
    return found


def _range_text(low: float, high: float, unit: str) -> str:
    if math.isnan(low):
        return "-"
    text = plain(low) if low == high else f"{plain(low)} to {plain(high)}"
    return f"{text} {unit}".strip()


def _plain_log_axis(values: Floats, unit: str = "") -> dict[str, Any]:
    """A logarithmic axis with plain numbers at 1, 2 and 5."""
    axis = log_axis(values)
    return axis | {"ticktext": [f"{plain(tick)}{' ' + unit if unit else ''}" for tick in axis["tickvals"]]}


def _spread(count: int) -> Floats:
    """Marks of one row, a little apart."""
    return np.asarray(0.14 * np.sin(np.arange(count) * 2.4))


def _short(study: str) -> str:
    return study.rpartition("/")[2]


def _nothing(text: str) -> go.Figure:
    figure = go.Figure()
    figure.add_annotation(text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font_size=15)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return _styled(figure, 120)


def _styled(figure: go.Figure, height: int) -> go.Figure:
    margin = {"l": 12, "r": 12, "t": 45, "b": 10}
    figure.update_layout(template="plotly_white", height=height, font=FONT, margin=margin, legend=LEGEND)
    figure.update_xaxes(automargin=True)
    return figure.update_yaxes(automargin=True)
