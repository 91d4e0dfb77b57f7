"""A self-contained HTML page about a run: the answer first, then pictures, then every figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

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
from app.html_page import card_html, notes_html, page_html, pictures_html
from app.kv_lines import kv_lines
from sim.metrics import METRICS, Metric, plain
from sim.result import Result
from sim.scenario_file import scenario_toml
from sim.stored_run import StoredRun

LIMITS = {"ttft_s": "TTFT", "tbt_s": "longest TBT", "tpot_s": "TPOT", "e2e_s": "E2E"}


def html_report(result: Result | StoredRun) -> str:
    """The page as one string; it needs no network, and the same run gives the same page."""
    summary = result.summary
    count = summary["requests"]
    body = f"""\
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
{notes_html(summary["notes"])}
<h2>Scenario</h2><pre>{escape(scenario_toml(result.scenario))}</pre>"""
    return page_html(result.scenario.name, body)


def energy_html(summary: dict[str, Any]) -> str:
    """The account of a run's energy, and of a prefix cache, a line a sentence; nothing where there is none."""
    lines = [*energy_lines(summary), *kv_lines(summary)]
    return f"<p>{'<br>'.join(escape(line) for line in lines)}</p>" if lines else ""


def _cards(summary: dict[str, Any]) -> str:
    cards = ""
    for key in (*HEADLINE, "ttft_s.p99", "tbt_s.p99"):
        name, _, point = key.partition(".")
        bars = latency_interval(summary, name, point) if point else interval_text(summary, key)
        cards += metric_card(METRICS[key], summary, bars)
    return cards


def metric_card(metric: Metric, summary: Mapping[str, Any], bars: str) -> str:
    """One figure of a summary; bars: its 90 % interval in words, empty where there is none."""
    number, _, unit = metric.text(metric.value(dict(summary))).partition(" ")
    return card_html(metric.name, number, unit, bars)


def metric_cards(metrics: Iterable[Metric], summary: dict[str, Any]) -> str:
    """A card for each that the run has."""
    known = [metric for metric in metrics if not math.isnan(metric.value(summary))]
    return "".join(metric_card(metric, summary, interval_text(summary, metric.key)) for metric in known)


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
