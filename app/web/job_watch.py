"""A command that a page started, watched: progress, a button to stop it, and a new look at the page when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from app.web import resources
from app.web.components import error
from app.web.jobs import Job
from hardware_models.errors import FleetcastError

PERIOD_S = 0.5
AT_ONCE = 2  # commands of these pages


def start(arguments: Sequence[str], folder: Path, time_limit_s: float | None = None) -> None:
    """Start a command, unless as many as may run do; what is wrong is said on the page.

    time_limit_s: the settings' for a command, if none is given.
    """
    try:
        Job.start(arguments, folder, time_limit_s or resources.settings().job_limit_s, AT_ONCE)
    except FleetcastError as mistake:
        st.session_state[_said(folder)] = str(mistake)
        return
    resources.store().prune_jobs()


def watch(folder: Path, show: Callable[[Job], None]) -> Job | None:
    """The job of a folder, ended; None where there is none or while it runs, which the page then shows.

    show: draws what the running job has printed so far.
    """
    if (mistake := st.session_state.pop(_said(folder), None)) is not None:
        error(mistake)
    job = Job.read(folder)
    if job is None:
        return None
    if job.poll().running:
        _running(folder, show)
        return None
    return job


def problem(job: Job) -> str:
    """Why an ended job has no result, in its own words; empty where it has."""
    state = job.poll()
    if state.name == "finished":
        return ""
    if state.name == "stopped":
        return "stopped; what came before is kept"
    if state.name == "timed out":
        return f"stopped after {state.elapsed_s:,.0f} s, the app's limit; use the command line"
    said = [line for line in job.stderr().strip().splitlines() if line.strip()]
    return said[-1].removeprefix("fleetcast: ") if said else f"{state.name} without a word"


@st.fragment(run_every=PERIOD_S)
def _running(folder: Path, show: Callable[[Job], None]) -> None:
    job = Job.read(folder)
    if job is None or not job.poll().running:
        st.rerun()
    with st.container(border=True):
        show(job)
        st.button("Stop", key=f"stop:{folder.name}", icon=":material/stop_circle:", on_click=job.stop)


def _said(folder: Path) -> str:
    return f"fleetcast.job:{folder.name}"
