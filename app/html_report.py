"""A self-contained HTML page about a run: the answer first, then pictures, then every figure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go
import plotly.offline

from app.console import (
    HEADLINE,
    LATENCIES,
    STATISTICS,
    close_call,
    grades_in_words,
    interval_text,
    latency_interval,
)
from app.energy_lines import energy_lines
from app.figures import figures
from sim.metrics import METRICS, Metric, plain
from sim.result import Result
from sim.scenario_file import scenario_toml
from sim.stored_run import StoredRun

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1080px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { margin-bottom: 0; overflow-wrap: anywhere; } h2 { margin: 2rem 0 .3rem; font-size: 1.15rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(155px, 1fr)); gap: .6rem; margin: 1rem 0; }
.card { border: 1px solid #ddd; border-radius: 6px; padding: .5rem .8rem; }
.card b { font-size: 1.25rem; } .card span { display: block; color: #595959; font-size: .85rem; }
.card small { color: #595959; } .bars { display: block; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #eee; }
td { font-variant-numeric: tabular-nums; } td:first-child, th:first-child { text-align: left; padding-left: 0; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; } .met { color: #00704a; } .missed { color: #b33c00; }
.wide { overflow-x: auto; }
@media (max-width: 520px) { td, th { padding: .15rem .3rem; font-size: .8rem; }
  .cards { grid-template-columns: repeat(2, 1fr); } }
"""
PLOT_CONFIG = {"responsive": True, "displayModeBar": False}
LIMITS = {"ttft_s": "TTFT", "tbt_s": "longest TBT", "tpot_s": "TPOT", "e2e_s": "E2E"}


def html_report(result: Result | StoredRun) -> str:
    """The page as one string; it needs no network, and the same run gives the same page."""
    summary = result.summary
    count = summary["requests"]
    notes = "".join(f"<li>{escape(note)}</li>" for note in summary["notes"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(result.scenario.name)} - Fleetcast</title><style>{STYLE}</style>
<script>{plotly.offline.get_plotlyjs()}</script></head><body>
<h1>{escape(result.scenario.name)}</h1>
<p>{escape(summary["model"])} on {result.scenario.cluster.nodes:,} x {escape(summary["node"])},
{count:,} request{"s" if count != 1 else ""} of {escape(summary["workload"])},
{plain(summary["duration_s"])} s simulated, seed {summary["seed"]}; the times are
<b>{escape(summary["grade"])}</b> ({escape(grades_in_words(summary))}).</p>
<p><b>{escape(summary["bottleneck"])}</b></p>
{_slo(summary)}
<div class="cards">{_cards(summary)}</div>
{energy_html(summary)}
{pictures_html(figures(result))}
<h2>Latencies, ms</h2><div class="wide">{latency_table(summary)}</div>
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
<h2>Scenario</h2><pre>{escape(scenario_toml(result.scenario))}</pre>
</body></html>
"""


def energy_html(summary: dict[str, Any]) -> str:
    """The account of a run's energy, a line a sentence; nothing where there is none."""
    lines = energy_lines(summary)
    return f"<p>{'<br>'.join(escape(line) for line in lines)}</p>" if lines else ""


def _cards(summary: dict[str, Any]) -> str:
    cards = ""
    for key in (*HEADLINE, "ttft_s.p99", "tbt_s.p99"):
        name, _, point = key.partition(".")
        bars = latency_interval(summary, name, point) if point else interval_text(summary, key)
        cards += card_html(METRICS[key], summary, bars)
    return cards


def card_html(metric: Metric, summary: Mapping[str, Any], bars: str) -> str:
    """One figure; bars: its 90 % interval in words, empty where there is none."""
    number, _, unit = metric.text(metric.value(dict(summary))).partition(" ")
    return (
        f'<div class="card"><span>{escape(metric.name)}</span>'
        f"<b>{escape(number)}</b> <small>{escape(unit)}</small>"
        f"{f'<small class=bars>90 %: {escape(bars)}</small>' if bars else ''}</div>"
    )


def pictures_html(pictures: Mapping[str, go.Figure]) -> str:
    """Each picture below its title."""
    html = ""
    for number, (title, figure) in enumerate(pictures.items(), start=1):
        picture = figure.to_html(
            full_html=False, include_plotlyjs=False, config=PLOT_CONFIG, div_id=f"figure-{number}", default_width="100%"
        )
        html += f'<h2>{escape(title)}</h2><div class="wide">{picture}</div>'
    return html


def _slo(summary: dict[str, Any]) -> str:
    items = []
    for key, verdict in summary["slo"].items():
        if isinstance(verdict, dict):
            seconds = verdict["reached"]
            reached = "never: requests were rejected" if seconds is None else f"{seconds * 1e3:,.0f} ms"
            word = "met" if verdict["met"] else "missed"
            reached += close_call(summary, key)
            items.append(
                f"<li>p{summary['slo']['percentile']:g} {LIMITS[key]} &le; {verdict['limit'] * 1e3:,.0f} ms:"
                f' <b class="{word}">{word}</b> ({reached})</li>'
            )
    return f"<ul>{''.join(items)}</ul>" if items else ""


def latency_table(summary: dict[str, Any]) -> str:
    """A row a latency, in ms, as HTML."""
    head = "".join(f"<th>{name}</th>" for name in ("", *STATISTICS, "90 % interval of p99"))
    rows = ""
    for key, name in LATENCIES:
        cells = "".join(
            f"<td>{'-' if summary[key][s] is None else format(summary[key][s] * 1e3, ',.1f')}</td>" for s in STATISTICS
        )
        rows += f"<tr><td>{escape(name)}</td>{cells}<td>{escape(latency_interval(summary, key))}</td></tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"
