"""A self-contained HTML page about a sweep: the answer first, then pictures, then the settings in a table."""

from __future__ import annotations

from html import escape

import pandas as pd

from app.html_page import card_html, page_html, pictures_html
from app.sweep_figures import figures
from app.sweep_report import asked_lines, key_figures, limit_lines, reason_lines, shares_note, verdict
from sim.sweep.analysis import Analysis, bars
from sim.sweep.columns import SWEEP_METRICS
from sim.sweep.sensitivity import level_text

TABLE_ROWS = 50
NARROW = ".wide td, .wide th { white-space: nowrap; }"


def html_report(analysis: Analysis) -> str:
    """The page as one string; it needs no network, and the same rows give the same page."""
    sweep = analysis.sweep
    points = sum(analysis.statuses.values())
    name, *asked = (_unstyled(line) for line in asked_lines(sweep, points, points // len(sweep.seeds)))
    first, *rest = [*verdict(analysis), *limit_lines(analysis)]
    reasons = "\n".join(_unstyled(line) for line in reason_lines(analysis)).strip("\n")
    body = f"""\
<p><b>{escape(first)}</b></p>
{"".join(f"<p>{escape(text)}</p>" for text in rest)}
<div class="cards">{_cards(analysis)}</div>
{_bottleneck(analysis)}
{pictures_html(figures(analysis))}
{_effects(analysis)}
<h2>{_table_title(analysis)}</h2><div class="wide">{_table(analysis)}</div>
{f"<h2>Points without an answer</h2><pre>{escape(reasons)}</pre>" if reasons else ""}
<h2>What was asked</h2><pre>{escape(chr(10).join(line.strip() for line in asked))}</pre>
<h2>Sweep</h2><pre>{escape(sweep.toml())}</pre>"""
    return page_html(name, body, NARROW)


def _cards(analysis: Analysis) -> str:
    """Key figures of the best setting."""
    best = analysis.best
    cards = ""
    for key in dict.fromkeys((analysis.goal.metric.key, *key_figures(analysis.sweep))) if best is not None else ():
        assert best is not None
        metric = SWEEP_METRICS[key]
        number, _, unit = metric.text(float(best[key])).partition(" ")
        low, high = bars(best, metric)
        ends = f"{metric.text(low).partition(' ')[0]} to {metric.text(high).partition(' ')[0]}" if low != high else ""
        cards += card_html(metric.name, number, unit, ends)
    return cards


def _bottleneck(analysis: Analysis) -> str:
    best = analysis.best
    if best is None:
        return ""
    return f"<p>{escape(str(best['bottleneck']))} The times are <b>{escape(str(best['grade']))}</b>.</p>"


def _effects(analysis: Analysis) -> str:
    """Shares of variance, with what they are."""
    metric = analysis.goal.metric
    if not analysis.effects:
        return ""
    rows = ""
    for effect in analysis.effects:
        low, high = (metric.text(end(effect.means)) for end in (min, max))
        rows += f"<tr><td>{escape(effect.key)}</td><td>{effect.share:.1%}</td><td>{low}</td><td>{high}</td></tr>"
    note = shares_note(analysis)
    return (
        f"<h2>What moves {escape(metric.name)}</h2><table><tr><th>axis</th><th>share of its variance</th>"
        f"<th>lowest mean</th><th>highest mean</th></tr>{rows}</table><p>{escape(note)}</p>"
    )


def _table_title(analysis: Analysis) -> str:
    shown, ranked = min(TABLE_ROWS, len(_listed(analysis))), len(_listed(analysis))
    what = "settings, best first" if len(analysis.ranked) else "settings (none keeps every limit)"
    return f"{shown} of {ranked:,} {what}" if shown < ranked else f"{ranked:,} {what}"


def _listed(analysis: Analysis) -> pd.DataFrame:
    return analysis.ranked if len(analysis.ranked) else analysis.settings


def _table(analysis: Analysis) -> str:
    judged = (analysis.goal.metric.key, *(limit.metric.key for limit in analysis.goal.limits))
    keys = list(dict.fromkeys((*judged, *key_figures(analysis.sweep))))
    metrics = [SWEEP_METRICS[key] for key in keys]
    head = "".join(f"<th>{escape(text)}</th>" for text in (*analysis.sweep.keys, *(m.name for m in metrics), "grade"))
    body = ""
    for _, setting in _listed(analysis).head(TABLE_ROWS).iterrows():
        cells = [level_text(setting[key]) for key in analysis.sweep.keys]
        cells += [metric.text(float(setting[metric.key])) for metric in metrics]
        body += "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in (*cells, str(setting["grade"]))) + "</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _unstyled(line: str) -> str:
    import click

    return click.unstyle(line)
