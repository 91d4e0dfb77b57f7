"""The pictures of a row's plan, from its plan.json: servers against the row's peak, and against what users feel."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, styled
from app.plan_oversubscribe_console import IMPACTS
from sim.plan.power.table import WORDS

HEIGHT = 400
MOST_SHOWN = 3.0  # of a rise over what is allowed: beyond, how far it is broken hides how near it is
POLICIES = (BLUE, ORANGE, PURPLE, SKY, GREEN)
COLOURS = dict(zip(IMPACTS, (SKY, BLUE, ORANGE, RED), strict=True))
GREY = "#8A9096"


def oversubscription_figures(found: dict[str, Any]) -> dict[str, go.Figure]:
    """Title to figure, in the order of reading."""
    rows = [row for row in found["rows"] if not row["refused"]]
    if not rows:
        return {}
    pictures = {"Servers and the row's highest reading": peaks(found, rows)}
    own = [row for row in rows if row["policy"] == found["policy"]]
    if any(row[name] is not None for row in own for name in IMPACTS):
        pictures[f"Servers and what users feel under {found['policy']}"] = impacts(found, own)
    return pictures


def peaks(found: dict[str, Any], rows: list[dict[str, Any]]) -> go.Figure:
    """Highest reading over the limit, under each policy and without a limit; bars are low and high over seeds."""
    figure = go.Figure()
    free = {row["servers"]: row for row in rows}
    _add(figure, [free[n] for n in sorted(free)], "peak_fraction_without_limit", "without a limit", GREY, 100.0)
    for colour, policy in zip(POLICIES, found["policies"], strict=False):
        own = [row for row in rows if row["policy"] == policy["policy"]]
        _add(figure, own, "peak_fraction", policy["policy"], colour, 100.0)
    figure.add_hline(y=100.0, line={"dash": "dash", "color": RED}, annotation_text="limit")
    figure.update_yaxes(title="highest reading, % of the limit")
    return _along_servers(figure, found)


def impacts(found: dict[str, Any], rows: list[dict[str, Any]]) -> go.Figure:
    """Rise of latencies over what is allowed of each, by priority; above 1 a criterion is broken."""
    figure = go.Figure()
    for name, colour in COLOURS.items():
        allowed = found["criteria"][name]
        known = [row for row in rows if row[name] is not None]
        if known and allowed:
            _add(figure, known, name, f"{WORDS[name]} (allowed: {100.0 * allowed:.3g} %)", colour, 1.0 / allowed)
    figure.add_hline(y=1.0, line={"dash": "dash", "color": RED}, annotation_text="allowed")
    figure.update_yaxes(title="rise over what is allowed", range=[-0.2, MOST_SHOWN])
    return _along_servers(figure, found)


def _along_servers(figure: go.Figure, found: dict[str, Any]) -> go.Figure:
    for servers, label in ((found["built_for"], "built for"), (found["servers"], "answer")):
        if servers is not None:
            position = "bottom left" if label == "built for" else "bottom right"
            line = {"dash": "dot", "color": "#222"}
            figure.add_vline(x=servers, line=line, annotation_text=label, annotation_position=position)
    figure.update_xaxes(title="servers")
    return styled(figure, HEIGHT)


def _add(figure: go.Figure, rows: list[dict[str, Any]], key: str, name: str, colour: str, factor: float) -> None:
    """A line through the middles of low and high, which are its error bars; crosses are numbers that are not safe."""
    pairs = [[factor * value for value in row[key]] for row in rows]
    figure.add_scatter(
        x=[row["servers"] for row in rows],
        y=[(low + high) / 2.0 for low, high in pairs],
        error_y={"type": "data", "array": [(high - low) / 2.0 for low, high in pairs]},
        mode="lines+markers",
        name=name,
        showlegend=True,
        line={"color": colour},
        marker={
            "size": 9,
            "symbol": ["circle" if row["safe"] or colour == GREY else "x" for row in rows],
        },
        text=[f"{100.0 * row['oversubscription']:+.0f} %" for row in rows],
        hovertemplate="%{x} servers (%{text}): %{y:.4g}<extra>" + name + "</extra>",
    )
