"""The pictures of a sweep, as plain functions from an analysis to figures; colours are safe for the colour-blind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures import BLUE, ORANGE, SKY, styled
from app.sweep_report import setting_text, short_key
from sim.metrics import Metric
from sim.sweep.analysis import Analysis, bars
from sim.sweep.sensitivity import binned

MOST_POINTS = 2000  # of a cloud
MOST_AXES = 6  # of the picture of categories, and of main effects
MOST_COLUMNS = 3
GREY = "#999999"
SCALE = "Cividis"  # even in lightness, and to the colour-blind (Nunez, Anderton and Renslow, PLoS ONE 13, 2018)


def figures(analysis: Analysis) -> dict[str, go.Figure]:
    """Title to figure, in the order of reading; those for which there are points enough."""
    goal = analysis.goal.metric
    first, second = analysis.goal.pareto
    found: dict[str, go.Figure] = {}
    if not len(analysis.settings):
        return found
    found[f"Trade-off: {first.name} against {second.name}"] = pareto_plot(analysis)
    if analysis.effects:
        found[f"What moves {goal.name}: means with their share of its variance"] = main_effects(analysis)
    if len(analysis.effects) > 1:
        one, two = (effect.key for effect in analysis.effects[:2])
        found[f"{goal.name} over the two axes that move it most (mean over the others)"] = heat_map(analysis, one, two)
        found[f"Which values go with a good {goal.name}"] = categories(analysis)
    return found


def pareto_plot(analysis: Analysis) -> go.Figure:
    """Every setting in two metrics, those that none beats in both joined by a line, the best one marked."""
    first, second = analysis.goal.pareto
    settings, front = analysis.settings, analysis.front
    figure = go.Figure()
    step = max(1, -(-len(settings) // MOST_POINTS))
    cloud = settings.iloc[::step]
    for keeps, name, colour in ((True, "settings", SKY), (False, "breaking a limit", GREY)):
        some = cloud[cloud["keeps"] == keeps]
        if len(some):
            _add_points(figure, analysis, some, name, {"color": colour, "size": 6, "opacity": 0.7})
    line = {"color": BLUE, "width": 1.5}
    _add_points(figure, analysis, front, "none beats these in both", {"color": BLUE, "size": 9}, line)
    if analysis.best is not None:
        best = settings.loc[[analysis.best.name]]
        _add_points(figure, analysis, best, "best by the goal", {"color": ORANGE, "size": 14, "symbol": "star"})
        _add_bars(figure, analysis.best, first, second)
    figure.update_xaxes(title_text=axis_title(second), rangemode="tozero")
    figure.update_yaxes(title_text=axis_title(first), rangemode="tozero")
    return styled(figure, 440)


def heat_map(analysis: Analysis, across: str, up: str) -> go.Figure:
    """Mean of the goal at each pair of values (or bins) of two axes."""
    goal = analysis.goal.metric
    sampled = analysis.sweep.method in ("random", "lhs")
    labels, codes = zip(*(binned(analysis.settings[key], sampled) for key in (across, up)), strict=True)
    frame = pd.DataFrame({"x": codes[0], "y": codes[1], "value": analysis.settings[goal.key].to_numpy(dtype=float)})
    means = frame.pivot_table(index="y", columns="x", values="value", aggfunc="mean")
    means = means.reindex(index=range(len(labels[1])), columns=range(len(labels[0])))
    shown = means.to_numpy(dtype=float) * goal.shown_factor
    text = [["" if np.isnan(value) else f"{value:,.4g}" for value in row] for row in shown]
    figure = go.Figure()
    figure.add_heatmap(
        z=shown, x=list(labels[0]), y=list(labels[1]), colorscale=SCALE, text=text,
        hovertemplate=f"{across} %{{x}}<br>{up} %{{y}}<br>%{{text}} {goal.shown_unit}<extra></extra>",
        texttemplate="%{text}" if shown.size <= 60 else None, colorbar_title_text=goal.shown_unit,
    )  # fmt: skip
    figure.update_xaxes(title_text=across, type="category")
    figure.update_yaxes(title_text=up, type="category")
    return styled(figure, 160 + 40 * max(4, min(len(labels[1]), 12)))


def main_effects(analysis: Analysis) -> go.Figure:
    """Mean of the goal at each value of an axis, a panel an axis, on one scale."""
    goal = analysis.goal.metric
    shown = analysis.effects[:MOST_AXES]
    columns = min(MOST_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    titles = [f"{short_key(analysis.sweep, effect.key)}: {effect.share:.0%}" for effect in shown]
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes="all", subplot_titles=titles, vertical_spacing=0.45 / rows,
        horizontal_spacing=0.04,
    )  # fmt: skip
    for number, effect in enumerate(shown):
        row, column = number // columns + 1, number % columns + 1
        figure.add_scatter(
            x=list(effect.levels), y=[mean * goal.shown_factor for mean in effect.means], mode="lines+markers",
            line_color=BLUE, name=effect.key, row=row, col=column, customdata=list(effect.counts),
            hovertemplate="%{x}: %{y:,.4g}, mean of %{customdata} settings<extra></extra>",
        )  # fmt: skip
        figure.update_xaxes(type="category", row=row, col=column)
        if column == 1:
            figure.update_yaxes(title_text=axis_title(goal), row=row, col=column)
    figure.update_annotations(font_size=12)
    return styled(figure, 60 + 270 * rows).update_layout(showlegend=False)


def categories(analysis: Analysis) -> go.Figure:
    """Settings as ribbons through their values, coloured by the goal; the strongest axes first."""
    goal = analysis.goal.metric
    known = analysis.settings[analysis.settings[goal.key].notna()]
    step = max(1, -(-len(known) // MOST_POINTS))
    known = known.iloc[::step]
    sampled = analysis.sweep.method in ("random", "lhs")
    figure = go.Figure()
    dimensions: list[dict[str, Any]] = []
    for effect in analysis.effects[:MOST_AXES]:
        labels, codes = binned(known[effect.key], sampled)
        dimensions.append(
            {"label": short_key(analysis.sweep, effect.key), "values": codes, "categoryarray": list(range(len(labels))),
             "ticktext": labels}
        )  # fmt: skip
    values = known[goal.key].to_numpy(dtype=float) * goal.shown_factor
    colours = {
        "color": values,
        "colorscale": SCALE,
        "showscale": True,
        "colorbar": {"title": {"text": goal.shown_unit}},
    }
    figure.add_parcats(dimensions=dimensions, line=colours, hoveron="color", hoverinfo="count", arrangement="freeform")
    return styled(figure, 420).update_layout(margin={"l": 60, "r": 60, "t": 40, "b": 30})


def axis_title(metric: Metric) -> str:
    """`TTFT p99, ms`."""
    return f"{metric.name}, {metric.shown_unit}".rstrip(", ")


def _add_points(
    figure: go.Figure,
    analysis: Analysis,
    settings: pd.DataFrame,
    name: str,
    marker: dict[str, Any],
    line: dict[str, Any] | None = None,
) -> None:
    first, second = analysis.goal.pareto
    texts = [setting_text(analysis, setting).replace(", ", "<br>") for _, setting in settings.iterrows()]
    figure.add_scatter(
        x=settings[second.key].to_numpy(dtype=float) * second.shown_factor,
        y=settings[first.key].to_numpy(dtype=float) * first.shown_factor,
        mode="markers" if line is None else "lines+markers", marker=marker, line=line, name=name, text=texts,
        hovertemplate=f"%{{text}}<br>{first.name} %{{y:,.4g}}<br>{second.name} %{{x:,.4g}}<extra></extra>",
    )  # fmt: skip


def _add_bars(figure: go.Figure, setting: pd.Series, first: Metric, second: Metric) -> None:
    """90 % intervals of a setting's two metrics."""
    x, y = (float(setting[metric.key]) * metric.shown_factor for metric in (second, first))
    ends = {metric.key: [end * metric.shown_factor for end in bars(setting, metric)] for metric in (first, second)}
    line = {"color": ORANGE, "width": 1.5}
    common: dict[str, Any] = {"mode": "lines", "line": line, "showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(x=ends[second.key], y=[y, y], **common)
    figure.add_scatter(x=[x, x], y=ends[first.key], **common)
