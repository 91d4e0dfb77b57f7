"""One study in the Gallery: its figures beside the published ones, simulated anew on request."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from app.validation import Validation, frame_of, rows_in
from app.validation_figures import against_published
from app.web import resources
from app.web.cards import Card
from app.web.components import as_text, cards, error, figure, table
from app.web.gallery_point import show_point
from app.web.job_watch import problem, start, watch
from app.web.jobs import Job
from sim.identity import simulator_fingerprint
from sim.study import Study, load_study

SHOWN = {
    "point": "point", "simulated": "simulated", "low": "low", "high": "high", "published_low": "published, low",
    "published_high": "published, high", "unit": "unit", "error_fraction": "error", "in_sample": "in a fit",
    "source": "source",
}  # fmt: skip


def show_study(name: str, shipped: Validation) -> None:
    """Draw it."""
    study = load_study(name)
    st.header(as_text(study.title), anchor=False)
    st.caption(as_text(study.paper))
    st.markdown(as_text(study.notes))
    folder = resources.store().jobs / f"validate-{name.replace('/', '-')}-{simulator_fingerprint()}"
    job = watch(folder, lambda running: _progress(running, study))
    fresh = list(rows_in(job.stdout())) if job is not None and not problem(job) else []
    frame = frame_of(fresh or [row for row in shipped.rows if row.study == name])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(_when(job, bool(fresh), shipped))
        _again(name, folder)
    if job is not None and (why := problem(job)):
        error(f"simulating again: {why}")
    _headline(frame)
    picture = st.container()
    changed = show_point(name, study, frame)
    with picture:
        figure(against_published(frame, changed), key=f"against:{name}")
        st.caption(
            "After each name: how far the simulated figure lies from the published one, or from the nearest end of its"
            " range. Hollow marks: a fit has seen that figure, so it judges nothing."
        )
    st.subheader("Every figure with its source", anchor=False)
    table(_shown(frame), key=f"rows:{name}", file_name=name.replace("/", "-"))


def _when(job: Job | None, fresh: bool, shipped: Validation) -> str:
    if job is None or not fresh:
        return shipped.said()
    return f"Simulated here, by this version of the simulator, in {job.poll().elapsed_s:,.0f} s."


def _again(name: str, folder: Path) -> None:
    job = Job.read(folder)
    st.button(
        "Simulate again", icon=":material/refresh:", disabled=job is not None and job.poll().running,
        on_click=start, args=(["validate", name, "--json"], folder), key=f"again:{name}",
    )  # fmt: skip


def _progress(job: Job, study: Study) -> None:
    """Rows as they come."""
    rows = list(rows_in(job.stdout()))
    total = len(study.point)
    st.progress(min(len(rows) / total, 1.0), f"{len(rows)} of {total} points, {job.poll().elapsed_s:,.0f} s")
    if rows:
        st.dataframe(_shown(frame_of(rows))[["point", "simulated", "error"]], hide_index=True, height=180)


def _headline(frame: pd.DataFrame) -> None:
    published = frame[frame["published_low"].notna()]
    judged = published[~published["in_sample"].astype(bool)]
    figures = judged[judged["published_low"] == judged["published_high"]]
    errors = figures["error_fraction"].abs()
    found = [Card(label="published figures", value=str(len(published)), note=f"{len(judged)} unseen by any fit")]
    if len(errors):
        found.append(Card(label="median error", value=f"{errors.median():.0%}"))
        worst = figures.iloc[int(errors.to_numpy().argmax())]
        largest = f"{worst['error_fraction']:+.0%}" if worst["error_fraction"] else "none"
        found.append(Card(label="largest error", value=largest, note=worst["point"] if largest != "none" else ""))
    ranged = judged[(judged["published_high"] > judged["published_low"]) | (judged["high"] > judged["low"])]
    if len(ranged):
        meet = (ranged["low"] <= ranged["published_high"]) & (ranged["published_low"] <= ranged["high"])
        note = "published, or of what the paper leaves open"
        found.append(Card(label="ranges that meet", value=f"{int(meet.sum())} of {len(ranged)}", note=note))
    cards(found)


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    shown = frame[list(SHOWN)].rename(columns=SHOWN)
    shown["error"] = [f"{value:+.1%}" if value == value else "" for value in frame["error_fraction"]]  # noqa: PLR0124
    return shown
