"""A training plan's page, made of its plan.json: the answer, pictures, tables, and how to launch it."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go
import plotly.offline

from app.figures import BLUE, GREEN, ORANGE, styled
from app.html_report import STYLE
from app.plan_report import MORE_STYLE, cards_html, figures_html, number_text, table_html
from sim.metrics import plain

HEIGHT = 380
HEAD = ("plan", "step, s", "ratio", "90 % interval, s", "MFU", "bubbles", "memory, GB", "energy, MJ a step", "sure")


def training_plan_report(found: dict[str, Any]) -> str:
    """The page as one string; it needs no network, and the same plan gives the same page."""
    title = f"{escape(found['name'])}: the fastest plan"
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*found["notes"], *found["megatron_notes"]))
    losers = [(f"{row['plans']:,}", row["why"], row["nearest"], row["by"]) for row in found["losers"]]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Fleetcast</title><style>{STYLE}{MORE_STYLE}</style>
<script>{plotly.offline.get_plotlyjs()}</script></head><body>
<h1>{title}</h1>
{_answer(found)}
{figures_html({"Step time and memory": step_and_memory(found)})}
<h2>The best</h2>{table_html(HEAD, [_row(row) for row in found["best"]])}
<h2>Less memory, or fewer GPUs, for a longer step</h2>{table_html(HEAD, [_row(row) for row in found["front"]])}
<h2>Why the others lose</h2>{table_html(("plans", "why", "nearest", "by"), losers)}
<h2>Flags of Megatron-LM</h2><pre>{escape(chr(10).join(found["megatron_flags"]))}</pre>
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
</body></html>
"""


def step_and_memory(found: dict[str, Any]) -> go.Figure:
    """The best and the front by step time and memory of the fullest GPU."""
    figure = go.Figure()
    for name, rows, colour, size in (
        ("the front", found["front"][1:], ORANGE, 9),
        ("the best", found["best"][1:], BLUE, 9),
        ("the answer", found["best"][:1], GREEN, 13),
        ("the scenario's own", [found["own"]] if found["own"] else [], "#222", 9),
    ):
        figure.add_scatter(
            x=[row["step_s"] for row in rows],
            y=[row["peak_bytes"] / 1e9 for row in rows],
            mode="markers",
            name=name,
            marker={"color": colour, "size": size},
            text=[row["plan"] for row in rows],
            hovertemplate="%{text}: %{x:.4g} s, %{y:.1f} GB<extra></extra>",
        )
    budget = found["budget_bytes"] / 1e9
    figure.add_hline(y=budget, line={"dash": "dash", "color": "#555"}, annotation_text="what tensors may take")
    figure.update_xaxes(title="step, s")
    figure.update_yaxes(title="memory of the fullest GPU, GB", rangemode="tozero")
    return styled(figure, HEIGHT)


def _answer(found: dict[str, Any]) -> str:
    best, summary = found["best"][0], found["winner"]
    low, high = best["step_s_90"]
    space = found["space"]
    return f'<p><b class="met">{escape(best["plan"])}</b>: {escape(summary["bottleneck"])}</p>' + cards_html(
        ("step", plain(best["step_s"]), f"s, 90 % {plain(low)} to {plain(high)}"),
        ("MFU", f"{summary['mfu']:.1%}", ""),
        ("memory", f"{best['peak_bytes'] / 1e9:.1f}", f"GB of {found['budget_bytes'] / 1e9:.1f}"),
        ("pipeline bubbles", f"{summary['pipeline_bubble_fraction']:.1%}", ""),
        ("energy", plain(best["energy_j_per_step"] / 1e6), "MJ a step"),
        ("plans", f"{space['plans']:,}", f"{space['too_large']:,} do not fit"),
        ("simulated", f"{space['simulated']:,}", "the others are proved slower"),
    )


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    exact = row["known_by"] == "simulated"
    interval = " to ".join(plain(one) for one in row["step_s_90"]) if exact else "-"
    energy = row["energy_j_per_step"]
    return (
        row["plan"],
        plain(row["step_s"]) if exact else f"at least {plain(row['step_s'])}",
        f"{row['ratio']:.4f}",
        interval,
        f"{row['mfu']:.1%}" if exact else "-",
        f"{row['pipeline_bubble_fraction']:.1%}" if exact else "-",
        f"{row['peak_bytes'] / 1e9:.1f}",
        number_text(None if energy is None else energy / 1e6),
        "too close to call" if row.get("too_close") else "",
    )
