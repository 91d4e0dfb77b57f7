"""The answer of a run: the reason first, then the verdict, the figures with their error bars, pictures and files."""

from __future__ import annotations

import tempfile
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app.console import close_call, load_lines, power_lines
from app.figures import bottleneck_shares, figures, latency_cdfs, row_power, scaled_power
from app.html_report import LIMITS, html_report, latency_table
from app.timeline import first_window, timeline
from app.web.cards import POWER_SHOWN, SHOWN, summary_cards
from app.web.components import as_text, bottleneck, cards, figure, grade_html, table
from app.web.run_files import file_name, show_files
from sim.metrics import plain
from sim.scenario_file import scenario_toml
from sim.stored_run import AnyRun, StoredRun


def state_of(run: AnyRun) -> str:
    """Tells a run from every other, and from what lay in its folder before."""
    return f"{run.folder}:{(run.folder / 'summary.json').stat().st_mtime_ns}"


@st.cache_resource(max_entries=40, show_spinner=False, hash_funcs={StoredRun: state_of})
def overview(run: StoredRun) -> dict[str, go.Figure]:
    """The pictures that are looked at first, kept; not to be changed."""
    return {
        **row_power(run),
        **scaled_power(run),
        "Latency of requests": latency_cdfs(run.requests, run.scenario.slo),
        "What bounded the time": bottleneck_shares(run.summary["bound_by"]),
    }


@st.cache_resource(max_entries=20, show_spinner=False, hash_funcs={StoredRun: state_of})
def over_time(run: StoredRun) -> dict[str, go.Figure]:
    """The other pictures of a run, kept; not to be changed."""
    first = overview(run)
    return {title: picture for title, picture in figures(run).items() if title not in first}


def show_answer(run: StoredRun, baseline: StoredRun | None) -> None:
    """All of a run."""
    show_headline(run)
    if baseline is not None:
        st.caption(as_text(f"Changes are against the baseline, {baseline.scenario.name} ({baseline.folder.name})."))
    shown = (*(POWER_SHOWN if run.summary.get("power") else ()), *SHOWN)
    cards(summary_cards(run.summary, None if baseline is None else baseline.summary, shown))
    for show, tab in zip(SHOWS.values(), st.tabs(list(SHOWS), key="answer", on_change="rerun"), strict=True):
        if tab.open:
            with tab:
                show(run)


def show_headline(run: StoredRun) -> None:
    """What ran, what bounded it, whether it keeps its limits, and what the figures rest on."""
    summary, scenario = run.summary, run.scenario
    count, workload = summary["requests"], bare(summary["workload"])
    st.html(
        f'<p class="fc-line">{escape(summary["model"])} ({escape(scenario.model.weight_dtype)}) on'
        f" {scenario.cluster.nodes:,} x {escape(bare(summary['node']))}, {count:,} request{'s' if count != 1 else ''}"
        f" of {escape(workload)}, {plain(summary['duration_s'])} s simulated, seed {summary['seed']}</p>"
        f"{grades_line(summary)}"
    )
    bottleneck(summary)
    st.html("".join(f'<p class="fc-line">{line}</p>' for line in verdict_lines(summary)))
    for note in summary["notes"]:
        st.caption(as_text(note))


def grades_line(summary: dict[str, Any]) -> str:
    """What the times rest on, as HTML."""
    grades = summary["grades"].items()
    rests = "".join(f" {escape(part)} {grade_html(grade, f'{part}: {grade}')}" for part, grade in grades)
    return f'<p class="fc-line">The times rest on:{rests}</p>'


def bare(name: str) -> str:
    """A name of a catalog as it is, a file without its folder."""
    return Path(name).name if name.startswith("/") else name


def verdict_lines(summary: dict[str, Any]) -> list[str]:
    """A line of HTML a limit of the SLO: met or missed, by how much, and whether that is sure."""
    slo = summary["slo"]
    lines = []
    for key, verdict in slo.items():
        if isinstance(verdict, dict):
            seconds = verdict["reached"]
            reached = "never: requests were rejected" if seconds is None else f"{seconds * 1e3:,.0f} ms"
            word, kind = ("met", "better") if verdict["met"] else ("missed", "worse")
            lines.append(
                f"SLO p{slo['percentile']:g} {escape(LIMITS[key])} &le; {verdict['limit'] * 1e3:,.0f} ms:"
                f' <span class="fc-{kind}">{word}</span>, {escape(reached + close_call(summary, key))}'
            )
    lines = lines or ["No limits in [slo]: goodput counts every finished request."]
    row = [*power_lines(summary.get("power")), *load_lines(summary)]
    return lines + [escape(line.strip()) for line in row if line]


def _show_overview(run: StoredRun) -> None:
    show_pictures(overview(run))
    st.html(f'<h3>Latencies, ms</h3><div class="fc-wide">{latency_table(run.summary)}</div>')


def _show_over_time(run: StoredRun) -> None:
    show_pictures(over_time(run))


def show_pictures(pictures: dict[str, go.Figure]) -> None:
    """Each below its title."""
    for number, (title, picture) in enumerate(pictures.items()):
        st.subheader(title, anchor=False)
        figure(picture, f"picture {number} of {len(pictures)}")


@st.fragment
def _show_timeline(run: StoredRun) -> None:
    end = float((run.steps["start_s"] + run.steps["duration_s"]).max()) if len(run.steps) else 0.0
    if not end > 0:
        st.info("Nothing ran.")
        return
    first, few = first_window(run.steps)
    left, right = st.columns(2)
    at = left.number_input("from, s", 0.0, end, first, step=few, format="%g", key=f"from-{run.folder.name}")
    wide = right.number_input(
        "seconds shown", 1e-6, max(end, 1.0), few, step=few, format="%g", key=f"wide-{run.folder.name}"
    )
    picture, left_out = timeline(run.steps, at, at + wide)
    figure(picture, "timeline")
    st.caption(f"{left_out} Of {end:,.0f} s in all; the Perfetto trace under Files has the whole run.".strip())


def _show_requests(run: StoredRun) -> None:
    table(run.requests, f"requests-{run.folder.name}", f"{file_name(run.scenario.name)}-requests")


def _show_steps(run: StoredRun) -> None:
    table(run.steps, f"steps-{run.folder.name}", f"{file_name(run.scenario.name)}-steps")


def _show_files(run: StoredRun) -> None:
    show_files(
        run, scenario_toml(run.scenario), lambda: html_report(run), lambda: chrome_trace(run),
        ("requests", "steps", "power"),
    )  # fmt: skip


def chrome_trace(run: StoredRun) -> bytes:
    """The timeline for ui.perfetto.dev, gzipped."""
    from sim.trace_export import write_chrome_trace

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json.gz"
        write_chrome_trace(run, path)
        return path.read_bytes()


SHOWS = {
    "Overview": _show_overview,
    "Over time": _show_over_time,
    "Timeline": _show_timeline,
    "Requests": _show_requests,
    "Steps": _show_steps,
    "Files": _show_files,
}
