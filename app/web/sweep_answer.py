"""What a sweep says so far or in the end: the best point, what moves the goal, the trade-off, every row."""

from __future__ import annotations

from html import escape

import click
import pandas as pd
import streamlit as st

from app.sweep_figures import figures
from app.sweep_report import key_figures, limit_lines, reason_lines, shares_note, verdict
from app.web.cards import Card
from app.web.components import as_text, cards, download, figure, grade_badge, table
from app.web.links import open_scenario
from app.web.sweeps import KeptSweep
from sim.scenario_file import load_any
from sim.sweep.analysis import Analysis, analyse, bars
from sim.sweep.columns import SWEEP_METRICS
from sim.sweep.definition import Sweep
from sim.sweep.folder import BEST, REPORT, read_sweep


def show_sweep(kept: KeptSweep, sweep: Sweep) -> None:
    """Draw all of it; raises FleetcastError where the rows cannot be read."""
    rows = read_sweep(kept.folder)
    analysis = analyse(sweep, rows)
    if not kept.current:
        st.caption("Simulated by another version of Fleetcast; start it again for this one's answer.")
    first, *rest = [*verdict(analysis), *limit_lines(analysis)]
    st.html(f'<p class="fc-bottleneck">{_plain(first)}</p>')
    for line in rest:
        st.html(f'<p class="fc-line">{_plain(line)}</p>')
    best = analysis.best
    if best is not None:
        cards(_cards(analysis, best))
        st.caption(as_text(str(best["bottleneck"])))
        grade_badge(str(best["grade"]), "what the best point's times rest on")
    _best_actions(kept)
    for number, (title, picture) in enumerate(figures(analysis).items()):
        st.subheader(as_text(title), anchor=False)
        figure(picture, f"sweep-{kept.sweep_id}-{number}")
    if analysis.effects:
        st.caption(as_text(shares_note(analysis)))
    _without_answer(analysis)
    st.subheader("Every point", anchor=False)
    table(_shown(rows, analysis), f"sweep-{kept.sweep_id}", f"{sweep.name}-results")


def show_progress(kept: KeptSweep, sweep: Sweep) -> None:
    """The best so far and the picture of the trade-off, while a sweep runs."""
    if not (kept.folder / "points.parquet").is_file():
        return
    analysis = analyse(sweep, read_sweep(kept.folder))
    if len(analysis.settings):
        st.html(f'<p class="fc-line">So far: {_plain(verdict(analysis)[0])}</p>')


def _cards(analysis: Analysis, best: pd.Series) -> list[Card]:
    found = []
    for key in dict.fromkeys((analysis.goal.metric.key, *key_figures(analysis.sweep))):
        metric = SWEEP_METRICS[key]
        number, _, unit = metric.text(float(best[key])).partition(" ")
        low, high = bars(best, metric)
        ends = f"90 %: {metric.text(low).partition(' ')[0]} to {metric.text(high).partition(' ')[0]}"
        found.append(Card(label=metric.name, value=number, unit=unit, note=ends if low != high else ""))
    return found


def _best_actions(kept: KeptSweep) -> None:
    """Open the best point, take the files away."""
    with st.container(horizontal=True):
        path = kept.folder / BEST
        if path.is_file():
            open_scenario(load_any(path), "Open the best in {page}")
            download("Best scenario (TOML)", path.read_bytes, "best.toml", f"best-{kept.sweep_id}")
        report = kept.folder / REPORT
        if report.is_file():
            download("Report (HTML)", report.read_bytes, "report.html", f"report-{kept.sweep_id}", "text/html")


def _without_answer(analysis: Analysis) -> None:
    lines = [_plain(line) for line in reason_lines(analysis) if line.strip()]
    if lines:
        with st.expander(f"Points without an answer ({sum(count for *_, count in analysis.reasons):,})"):
            for line in lines:
                st.html(f'<p class="fc-line">{line}</p>')


def _shown(rows: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """Axes, goal, limits and key figures first; everything else after them."""
    judged = (analysis.goal.metric.key, *(limit.metric.key for limit in analysis.goal.limits))
    keys = (*judged, *key_figures(analysis.sweep))
    first = list(dict.fromkeys([*analysis.sweep.keys, "seed", "status", *keys, "reason", "grade"]))
    return rows[[*first, *(column for column in rows.columns if column not in first)]]


def _plain(line: str) -> str:
    return escape(click.unstyle(line).strip())
