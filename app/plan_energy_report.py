"""The page and the pictures of an energy plan, made of its plan.json."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, styled
from app.html_page import notes_html, page_html, pictures_html
from app.plan_energy import HEAD, answer_words, energy_cells
from app.plan_report import MORE_STYLE, cards_html, number_text, table_html
from sim.metrics import plain

COLOURS = {"as fast as may be": RED, "perseus": BLUE, "envpipe": PURPLE, "one clock": ORANGE, "power limit": SKY}
FAR = 1.6  # times the shortest step: what takes longer is not drawn
HEIGHT = 420


def energy_plan_report(found: dict[str, Any]) -> str:
    """The page as one string; it needs no network, and the same plan gives the same page."""
    row = found["chosen"]
    body = f"""\
<p><b class="met">{escape(answer_words(found))}</b></p>
{
        cards_html(
            ("step", plain(row["step_s"]), f"s, {row['slowdown_fraction']:+.1%}"),
            ("GPUs' energy saved", f"{row['gpu_saved_fraction']:.1%}", ""),
            ("site's energy saved", f"{row['site_saved_fraction']:.1%}", ""),
            ("electricity", plain(row["electricity_usd"]), "USD a step"),
            ("GPUs' hours", number_text(row["gpu_usd"]), "USD a step"),
        )
    }
{pictures_html(energy_figures(found))}
<h2>Every setting, simulated</h2>{table_html(HEAD, [energy_cells(one, found) for one in found["rows"]])}
{notes_html(found["notes"])}"""
    return page_html(f"{found['name']}: what a longer step saves", body, MORE_STYLE)


def energy_figures(found: dict[str, Any]) -> dict[str, go.Figure]:
    """Title to figure."""
    return {
        "A step's seconds and its GPUs' joules": against(found, "gpu_j", "GPUs, kJ a step"),
        "A step's seconds and its site's joules": against(found, "site_j", "site, kJ a step"),
    }


def against(found: dict[str, Any], column: str, title: str) -> go.Figure:
    """One trace a way to set clocks; the longest steps are left out."""
    figure, rows = go.Figure(), found["rows"]
    far_s = FAR * min(row["step_s"] for row in rows)
    for by, colour in COLOURS.items():
        own = sorted((row for row in rows if row["by"] == by and row["step_s"] <= far_s), key=lambda row: row["step_s"])
        _add(figure, own, column, by, {"color": colour, "size": 8})
    ring = {"color": GREEN, "size": 17, "symbol": "circle-open", "line": {"width": 3, "color": GREEN}}
    _add(figure, [found["chosen"]], column, "chosen", ring)
    if found["step_limit_s"] is not None:
        figure.add_vline(x=found["step_limit_s"], line={"dash": "dash", "color": "#555"}, annotation_text="limit")
    figure.update_xaxes(title="step, s")
    figure.update_yaxes(title=title)
    return styled(figure, HEIGHT)


def _add(figure: go.Figure, rows: list[dict[str, Any]], column: str, name: str, marker: dict[str, Any]) -> None:
    if not rows:
        return
    figure.add_scatter(
        x=[row["step_s"] for row in rows], y=[row[column] / 1e3 for row in rows], name=name, showlegend=True,
        mode="lines+markers" if len(rows) > 1 else "markers", marker=marker, line={"width": 1.2},
        text=[f"{row['by']} {row['setting']}" for row in rows],
        hovertemplate="%{text}<br>%{x:.4g} s, %{y:.4g} kJ<extra></extra>",
    )  # fmt: skip
