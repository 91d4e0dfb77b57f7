"""Runs side by side as tables: figures with their change against the first run, and settings that differ."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from app.compare import RunFolder, change_text, paired_interval
from app.console import interval_of
from app.web.cards import NO_CHANGE, delta
from sim.metrics import Metric, plain


def comparison_html(runs: Sequence[RunFolder]) -> str:
    """A row a metric, a column a run; the first one is what the others are set against."""
    head = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
    rows = ""
    for metric in runs[0].metrics:
        cells = "".join(_cell(metric, runs[0], run) for run in runs)
        rows += f"<tr><td>{escape(metric.name)}</td>{cells}</tr>"
    return f'<div class="fc-wide"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def _cell(metric: Metric, first: RunFolder, run: RunFolder) -> str:
    bars = interval_of(run.summary, metric.key)
    title = "" if bars is None else "90 %: " + " to ".join(plain(bar * metric.shown_factor) for bar in bars)
    text, verdict = NO_CHANGE if run is first else delta(metric, first.summary, run.summary)
    change = None if run is first else paired_interval(first.summary, run.summary, metric.key)
    if change is not None:
        title += "; change, 90 %: " + " to ".join(f"{(end - 1.0) * 100:+.1f} %" for end in change)
    below = f'<br><span class="fc-small fc-{verdict or "same"}">{escape(text)}</span>' if text else ""
    return f'<td title="{escape(title)}">{escape(metric.text(metric.value(run.summary)))}{below}</td>'


def settings_html(runs: Sequence[RunFolder], settings: Mapping[str, Sequence[Any]]) -> str:
    """A row a key that not all runs have alike."""
    if not settings:
        return '<p class="fc-line">Nothing: the same scenario, perhaps under another name.</p>'
    head = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
    rows = "".join(
        f"<tr><td>{escape(key)}</td>{''.join(f'<td>{escape(_short(value))}</td>' for value in values)}</tr>"
        for key, values in settings.items()
    )
    return f'<div class="fc-wide"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def comparison_csv(runs: Sequence[RunFolder]) -> bytes:
    """Figures as stored, in SI units, with intervals and changes: a row a run and metric."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ["run", "metric", "unit", "value", "low_90", "high_90", "change", "change_low_90", "change_high_90"]
    )
    for run in runs:
        for metric in run.metrics:
            value, bars = metric.value(run.summary), interval_of(run.summary, metric.key)
            first = runs[0].summary
            change = "" if run is runs[0] else change_text(metric.value(first), value)
            paired = None if run is runs[0] else paired_interval(first, run.summary, metric.key)
            ends = ("", "") if paired is None else tuple(end - 1.0 for end in paired)
            writer.writerow([run.name, metric.key, metric.unit, value, *(bars or ("", "")), change, *ends])
    return text.getvalue().encode()


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    if text.startswith("/"):  # a file of the user's own
        text = Path(text).name
    return text if len(text) <= 40 else f"...{text[-37:]}"
