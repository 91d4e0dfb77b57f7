"""The answer of a training step: the reason first, then the figures with their error bars, pictures and files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app.clock_figures import clock_pictures
from app.training_figures import memory_over_time, peak_by_stage, stage_time, step_shares, step_times
from app.training_page import memory_table, memory_title, training_html_report
from app.training_power_figures import power_over_time
from app.training_reason import same_tokens
from app.training_report import HEADLINE, asked_lines, swing_line
from app.training_timeline import first_window, pipeline_ends, pipeline_timeline
from app.web.answer import grades_line, show_pictures, state_of
from app.web.cards import Card, summary_cards
from app.web.components import as_text, bottleneck, cards, error, figure, table
from app.web.run_files import file_name, show_files
from sim.metrics import plain
from sim.scenario_file import tables_toml
from sim.stored_run import StoredOffloadedInference, StoredTraining
from sim.training.simulate import does_not_fit

FRAMES = ("tasks", "memory", "power")
NOW, BASELINE = "this plan", "baseline"
TIERS = ("offload.tiers.host.peak_bytes", "offload.tiers.drives.peak_bytes")  # below the GPU's memory
LARGEST = "offload.largest.parameters"


def show_training(
    run: StoredTraining,
    baseline: StoredTraining | None,
    said: dict[str, Any],
    tabs: Mapping[str, Callable[[], None]] | None = None,
) -> None:
    """All of a run; said: the tables that the widgets say, which may ask for a plan that fits. tabs: in place of those
    of the same name.
    """
    summary = run.summary
    refused = not summary["memory"]["fits"] and said["training"].get("check_memory", True)
    if refused:
        error(does_not_fit(summary["memory"]["verdict"]))
        st.caption("Below is what it would take if the memory were there.")
    _show_headline(run, [note for note in summary["notes"] if not (refused and summary["memory"]["verdict"] in note)])
    if baseline is not None:
        st.caption(as_text(f"Changes are against the baseline, {baseline.scenario.name} ({baseline.folder.name})."))
    cards(training_cards(summary, None if baseline is None else baseline.summary))
    if baseline is not None:
        figure(step_times({NOW: summary, BASELINE: baseline.summary}), "step-times")
    shows: dict[str, Callable[[], None]] = {
        "Overview": partial(_show_overview, run),
        "Timeline": partial(_show_timeline, run),
        "Memory": partial(_show_memory, run),
        "Power": partial(_show_power, run),
        "Tasks": partial(_show_tasks, run),
        "Files": partial(_show_files, run, said),
        **(tabs or {}),
    }
    for show, tab in zip(shows.values(), st.tabs(list(shows), key="training-answer", on_change="rerun"), strict=True):
        if tab.open:
            with tab:
                show()


def training_cards(summary: dict[str, Any], baseline: dict[str, Any] | None = None) -> list[Card]:
    """The headline of a step; of memory, how much tensors may take. A step of another batch is neither better nor
    worse for its length.
    """
    memory, use = summary["memory"], summary.get("offload")
    tiers = {} if use is None else {f"offload.tiers.{key}.peak_bytes": tier for key, tier in use["tiers"].items()}
    shown = (*HEADLINE, *(key for key in TIERS if key in tiers), *(() if use is None else (LARGEST,)))
    budget = f"of {memory['budget_bytes'] / 1e9:,.1f} GB{'' if memory['fits'] else ': does not fit'}"
    found = []
    for card in summary_cards(summary, baseline, shown):
        if card.title == "memory.peak_bytes":
            found.append(replace(card, note=budget))
        elif card.title in tiers:
            found.append(replace(card, note=f"of {plain(tiers[card.title]['budget_bytes'] / 1e9)} GB"))
        elif card.title == "step_s" and baseline is not None and not same_tokens(baseline, summary):
            found.append(replace(card, delta=f"{card.delta.partition(',')[0]}, of another batch", verdict="same"))
        else:
            found.append(card)
    return found


def _show_headline(run: StoredTraining, notes: list[str]) -> None:
    """What ran, what it waited for, and what the figures rest on."""
    plan, batch = asked_lines(run.scenario, run.summary)
    st.html(f'<p class="fc-line">{escape(plan)}</p><p class="fc-line">{escape(batch)}</p>{grades_line(run.summary)}')
    bottleneck(run.summary)
    for note in notes:
        st.caption(as_text(note))


@st.cache_resource(max_entries=40, show_spinner=False, hash_funcs={StoredTraining: state_of})
def training_overview(run: StoredTraining) -> dict[str, go.Figure]:
    """The pictures that are looked at first, kept; not to be changed."""
    summary = run.summary
    pipeline, title = pipeline_ends(run.tasks, summary["step_s"])
    return {
        "Where the step goes": step_shares({"": summary}),
        "What each stage's GPUs do": stage_time(run.tasks, summary["step_s"]),
        title: pipeline,
        "Memory of a GPU of each stage at its peak": peak_by_stage(run.memory, summary["memory"]["budget_bytes"]),
        **clock_pictures(summary.get("power") or {}),
    }


def _show_overview(run: StoredTraining) -> None:
    show_pictures(training_overview(run))


@st.fragment
def _show_timeline(run: StoredTraining) -> None:
    end = float(run.summary["step_s"])
    every = st.toggle("sends and exchanges too", key=f"streams-{run.folder.name}", help="a row a stream of each stage")
    few = min(first_window(run.tasks, compute_only=not every), end)
    left, right = st.columns(2)
    at = left.number_input("from, s", 0.0, end, 0.0, step=few / 4, format="%g", key=f"from-{run.folder.name}")
    wide = right.number_input(
        "seconds shown", 1e-6, 2 * end, few, step=few / 4, format="%g", key=f"wide-{run.folder.name}-{every}"
    )
    picture, left_out = pipeline_timeline(run.tasks, at, at + wide, compute_only=not every)
    figure(picture, "training-timeline")
    cut = f"Drawn: {left_out}; choose a shorter window for all. " if left_out else ""
    st.caption(f"{cut}Of {end:,.4g} s in all; the Perfetto trace under Files has every task.")


@st.fragment
def _show_memory(run: StoredTraining) -> None:
    use = run.summary["memory"]
    stages = sorted(run.memory["device"].unique().tolist())
    stage = st.selectbox(
        "pipeline stage", stages, stages.index(use["stage"]), key=f"stage-{run.folder.name}",
        format_func=lambda one: f"stage {one}: {use['stage_peak_bytes'][one] / 1e9:,.1f} GB at its peak",
    )  # fmt: skip
    figure(memory_over_time(run.memory, stage, use["budget_bytes"], run.summary["step_s"]), "memory-over-time")
    st.html(f'<h3>{escape(memory_title(use))}</h3><div class="fc-wide">{memory_table(use)}</div>')


def _show_power(run: StoredTraining) -> None:
    if run.summary.get("power") is None:
        st.caption("This run was made before power was kept; run it again.")
        return
    figure(power_over_time(run.power), "power-over-time")
    st.caption(as_text(" ".join(swing_line(run.summary["power"]).split())))


def _show_tasks(run: StoredTraining) -> None:
    name = file_name(run.scenario.name)
    table(run.tasks, f"tasks-{run.folder.name}", f"{name}-tasks")
    st.subheader("Memory", anchor=False)
    table(run.memory, f"memory-{run.folder.name}", f"{name}-memory")


def _show_files(run: StoredTraining, said: dict[str, Any]) -> None:
    show_files(run, asked_toml(run, said), lambda: training_html_report(run), lambda: step_trace(run), FRAMES)


def asked_toml(run: StoredTraining, said: dict[str, Any]) -> str:
    """The scenario that was asked: the page runs it without the check of its memory."""
    ran = run.scenario.model_dump(exclude_none=True)
    if "check_memory" in said["training"]:
        ran["training"]["check_memory"] = said["training"]["check_memory"]
    return tables_toml(ran)


def step_trace(run: StoredTraining | StoredOffloadedInference) -> bytes:
    """The timeline for ui.perfetto.dev, gzipped."""
    from sim.graph.frames_trace import write_frames_trace

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json.gz"
        write_frames_trace(run.tasks, run.memory, path)
        return path.read_bytes()
