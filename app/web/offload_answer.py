"""The answer of a run beyond a GPU's memory: the reason first, then figures, how full each tier is, streams, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.offload_figures import STEP_KINDS, on_streams, step_pictures
from app.offload_page import KINDS, memory_table, offload_figures, offload_html_report
from app.offload_report import HEADLINE, STREAMS, TIERS, asked_lines, blocks_text, moved_text
from app.offload_step import STREAMS as STEP_STREAMS
from app.offload_step import offload_html
from app.training_figures import memory_over_time, tier_memory
from app.web.answer import grades_line, show_pictures, state_of
from app.web.cards import Card, summary_cards
from app.web.components import as_text, bottleneck, cards, figure, table
from app.web.run_files import file_name, show_files
from app.web.training_answer import show_training, step_trace
from sim.metrics import plain
from sim.scenario_file import scenario_toml
from sim.stored_run import StoredOffloadedInference, StoredTraining

FEW = 150  # tasks that a window begins with
OF_A_BLOCK = ("prefill_s", "decode_step_s")


def show_offloaded_step(run: StoredTraining, baseline: StoredTraining | None, said: dict[str, Any]) -> None:
    """A training step, its streams and tiers in place of a pipeline's stages."""
    tiers = {one["name"]: (one["name"], one["budget_bytes"]) for one in run.summary["offload"]["tiers"].values()}
    show_training(run, baseline, said, {
        "Overview": partial(_show_step, run),
        "Timeline": partial(_show_timeline, run, STEP_KINDS, STEP_STREAMS),
        "Memory": partial(_show_memory, run, tiers),
    })  # fmt: skip


def show_offloaded_inference(
    run: StoredOffloadedInference, baseline: StoredOffloadedInference | None, _said: dict[str, Any]
) -> None:
    """All of a batch job."""
    summary = run.summary
    job, policy = asked_lines(run.scenario, summary)
    st.html("".join(f'<p class="fc-line">{escape(line)}</p>' for line in (job, f"{policy}; {blocks_text(summary)}")))
    st.html(grades_line(summary))
    bottleneck(summary)
    moved = moved_text(summary)
    st.markdown(as_text(f"{moved[0].upper()}{moved[1:]}."))
    for note in summary["notes"]:
        st.caption(as_text(note))
    if baseline is not None:
        st.caption(as_text(f"Changes are against the baseline, {baseline.scenario.name} ({baseline.folder.name})."))
    cards(inference_cards(summary, None if baseline is None else baseline.summary))
    tiers = {name: (key, summary["memory"][key]["budget_bytes"]) for key, name in TIERS.items()}
    shows = {
        "Overview": partial(_show_job, run),
        "Timeline": partial(_show_timeline, run, KINDS, STREAMS),
        "Memory": partial(_show_memory, run, tiers),
        "Tasks": partial(_show_tasks, run),
        "Files": partial(_show_files, run),
    }
    for show, tab in zip(shows.values(), st.tabs(list(shows), key="offload-answer", on_change="rerun"), strict=True):
        if tab.open:
            with tab:
                show()


def inference_cards(summary: dict[str, Any], baseline: dict[str, Any] | None = None) -> list[Card]:
    """The headline of a job; of each tier, how much it has. Seconds of another block are neither better nor worse."""
    budgets = {f"memory.{tier}.peak_bytes": one["budget_bytes"] for tier, one in summary["memory"].items()}
    other = baseline is not None and baseline["block_sequences"] != summary["block_sequences"]
    found = []
    for card in summary_cards(summary, baseline, HEADLINE):
        if card.title in budgets:
            found.append(replace(card, note=f"of {plain(budgets[card.title] / 1e9)} GB"))
        elif other and card.title in OF_A_BLOCK and card.delta:
            found.append(replace(card, delta=f"{card.delta.partition(',')[0]}, of another block", verdict="same"))
        else:
            found.append(card)
    return found


@st.cache_resource(max_entries=40, show_spinner=False, hash_funcs={StoredTraining: state_of})
def step_overview(run: StoredTraining) -> dict[str, go.Figure]:
    """The pictures of a step that are looked at first, kept; not to be changed."""
    return step_pictures(run.summary, run.tasks)


@st.cache_resource(max_entries=40, show_spinner=False, hash_funcs={StoredOffloadedInference: state_of})
def job_overview(run: StoredOffloadedInference) -> dict[str, go.Figure]:
    """The same of a batch job."""
    return offload_figures(run)


def _show_step(run: StoredTraining) -> None:
    show_pictures(step_overview(run))
    table_html = offload_html(run.summary).replace('class="wide"', 'class="fc-wide"').replace("h2>", "h3>")
    st.html(table_html.replace("</td><td>", '</td><td style="text-align:left">'))


def _show_job(run: StoredOffloadedInference) -> None:
    show_pictures(job_overview(run))
    st.html(f'<h3>Memory at its peak</h3><div class="fc-wide">{memory_table(run.summary["memory"])}</div>')


@st.fragment
def _show_timeline(
    run: StoredTraining | StoredOffloadedInference, kinds: Mapping[str, tuple[str, str]], streams: Mapping[str, str]
) -> None:
    """Every stream in a window of time."""
    tasks = run.tasks
    end = float(tasks["end_s"].max())
    few = first_window(tasks, end)
    left, right = st.columns(2)
    at = left.number_input("from, s", 0.0, end, 0.0, step=few / 4, format="%g", key=f"from-{run.folder.name}")
    wide = right.number_input(
        "seconds shown", 1e-6, 2 * end, few, step=few / 4, format="%g", key=f"wide-{run.folder.name}"
    )
    picture, left_out = on_streams(tasks, kinds, streams, (at, at + wide))
    figure(picture, "offload-timeline")
    cut = f"{left_out:,} tasks are left out; choose a shorter window for all. " if left_out else ""
    st.caption(f"{cut}Of {end:,.4g} s in all; the Perfetto trace under Files has every task.")


def first_window(tasks: pd.DataFrame, end_s: float) -> float:
    """Seconds from the start within which each task of the busiest stream is seen; all of them, where they are few."""
    lasting = tasks[(tasks["device"] >= 0) & (tasks["end_s"] > tasks["start_s"])]
    starts = [rows["start_s"].nsmallest(FEW + 1) for _, rows in lasting.groupby("stream") if len(rows) > FEW]
    return float(f"{max(1e-6, min((float(some.iloc[-1]) for some in starts), default=end_s)):.2g}")


@st.fragment
def _show_memory(run: StoredTraining | StoredOffloadedInference, tiers: Mapping[str, tuple[str, float]]) -> None:
    """What a tier holds over time; tiers: by name, its pool and its bytes."""
    held = {name: (pool, size) for name, (pool, size) in tiers.items() if (run.memory["pool"] == pool).any()}
    if not held:
        st.info("No memory is tracked.")
        return
    tier = st.segmented_control(
        "tier", list(held), default=next(iter(held)), required=True, key=f"tier-{run.folder.name}"
    )
    pool, budget_bytes = held[str(tier or next(iter(held)))]
    memory = tier_memory(run.memory, pool)
    figure(memory_over_time(memory, 0, budget_bytes, float(run.tasks["end_s"].max())), "memory-over-time")


def _show_tasks(run: StoredOffloadedInference) -> None:
    name = file_name(run.scenario.name)
    table(run.tasks, f"tasks-{run.folder.name}", f"{name}-tasks")
    st.subheader("Memory", anchor=False)
    table(run.memory, f"memory-{run.folder.name}", f"{name}-memory")


def _show_files(run: StoredOffloadedInference) -> None:
    show_files(
        run, scenario_toml(run.scenario), lambda: offload_html_report(run), lambda: step_trace(run), ("tasks", "memory")
    )
