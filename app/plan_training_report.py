"""A training plan's page, made of its plan.json: the answer, pictures, tables, and how to launch it."""

from __future__ import annotations

from html import escape
from typing import Any

from app.html_page import notes_html, page_html, pictures_html
from app.plan_report import MORE_STYLE, cards_html, number_text, table_html
from app.plan_training_figures import scatters, step_against
from sim.metrics import plain

HEAD = ("plan", "step, s", "ratio", "90 % interval, s", "MFU", "bubbles", "memory, GB", "energy, MJ", "sure")


def training_plan_report(found: dict[str, Any]) -> str:
    """The page as one string; it needs no network, and the same plan gives the same page."""
    losers = [(f"{row['plans']:,}", row["why"], row["nearest"], row["by"]) for row in found["losers"]]
    body = f"""\
{_answer(found)}
{pictures_html({f"Step time and {name}": step_against(found, name) for name in scatters(found)})}
<h2>The best</h2>{table_html(HEAD, [plan_cells(row) for row in found["best"]])}
<h2>Less memory, or fewer GPUs, for a longer step</h2>{table_html(HEAD, [plan_cells(row) for row in found["front"]])}
<h2>Why the others lose</h2>{table_html(("plans", "why", "nearest", "by"), losers)}
<h2>Flags of Megatron-LM</h2><pre>{escape(chr(10).join(found["megatron_flags"]))}</pre>
{notes_html((*found["notes"], *found["megatron_notes"]))}"""
    return page_html(f"{found['name']}: the fastest plan", body, MORE_STYLE)


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


def plan_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of a table with HEAD; of what was not simulated, a dash where only that says it."""
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
