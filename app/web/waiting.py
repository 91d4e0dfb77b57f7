"""Waits for a run on behalf of a page: quick ones in silence, long ones with progress and a button to stop."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.web import resources
from app.web.components import error
from app.web.runner import Run
from sim.identity import scenario_id
from sim.scenario_file import AnyScenario

SILENT_S = 0.5
PERIOD_S = 0.25
UNDER_WAY, STOPPED, AGAIN = "fleetcast.run", "fleetcast.stopped", "fleetcast.again"


def watcher() -> str:
    """Who this session is to the runner."""
    context = get_script_run_ctx()
    return context.session_id if context is not None else "alone"


def computed(scenario: AnyScenario) -> str | None:
    """Identity of a scenario's finished run; None where it failed or was stopped, which the page then says.

    Raises FleetcastError where a file that the scenario names cannot be read.
    """
    if st.session_state.get(STOPPED) == scenario_id(scenario):
        st.warning("Stopped.", icon=":material/stop_circle:")
        st.button("Run again", key="run-again", on_click=_forget_stop)
        return None
    _forget_stop()
    again = bool(st.session_state.pop(AGAIN, False))
    run = resources.runner().submit(scenario, watcher(), again)
    if wait_for(run):
        return run.run_id
    if run.state == "failed":
        st.button("Try again", key="try-again", on_click=lambda: st.session_state.update({AGAIN: True}))
    return None


def take_up(run: Run) -> None:
    """One run a session: the earlier one is left, where it is another."""
    earlier: Run | None = st.session_state.get(UNDER_WAY)
    if earlier is not None and earlier is not run and not earlier.over:
        earlier.leave(watcher())
    st.session_state[UNDER_WAY] = run


def wait_for(run: Run) -> bool:
    """Has it finished? Shows what goes on meanwhile, and why it ended otherwise."""
    take_up(run)
    if not run.wait(SILENT_S, watcher()):
        place = st.empty()
        with place.container(border=True):
            bar = st.progress(0.0, progress_text(run))
            st.button("Stop", key="stop", icon=":material/stop_circle:", on_click=_stop, args=(run,))
        while not run.wait(PERIOD_S, watcher()):
            bar.progress(run.done / run.total if run.total else 0.0, progress_text(run))
        place.empty()
    if run.state == "failed":
        error(run.message)
    return run.state == "finished"


def progress_text(run: Run) -> str:
    """What a run is at, in words."""
    if run.state == "waiting":
        return f"waiting for a free worker, {run.elapsed_s:,.0f} s"
    if not run.total:
        return f"{run.family.under_way}, {run.elapsed_s:,.0f} s"
    return f"{run.done:,} of {run.total:,} requests simulated ({run.done / run.total:.0%}), {run.elapsed_s:,.0f} s"


def _stop(run: Run) -> None:
    run.leave(watcher())
    st.session_state[STOPPED] = run.run_id


def _forget_stop() -> None:
    st.session_state[STOPPED] = None
