"""The Serving page: a scenario's knobs at the side, its answer beside them, computed anew when a knob changes."""

from __future__ import annotations

import streamlit as st

from app.web import resources, session
from app.web.answer import show_answer
from app.web.components import as_text, error
from app.web.draft import Draft
from app.web.examples import example_names
from app.web.forms.form import scenario_form
from app.web.forms.widgets import Drawer
from app.web.guard import safe_scenario
from app.web.scenario_box import scenario_box
from app.web.store import Store
from app.web.url_state import full_example
from app.web.waiting import computed
from hardware_models.errors import FleetcastError
from sim.stored_run import StoredRun

TITLE = "Serving"
ICON = ":material/bolt:"
DRAFT, ANSWERED = "serving.draft", "serving.answered"


def render() -> None:
    """Draw the page."""
    store = resources.store()
    draft = _draft(store)
    with st.sidebar:
        _example_choice(draft, store)
        news = draft.say(scenario_form(draft.start, Drawer(f"serving:{draft.generation}:", store)))
    parameters = st.query_params.to_dict()
    if not news and draft.url and parameters != draft.url:  # the browser's back button
        draft.turn_to(parameters, store)
        st.rerun()
    url = draft.new_url(store)
    if url is not None:
        st.query_params.from_dict(url)
    _answer(draft, store)


def _draft(store: Store) -> Draft:
    """The session's; opened from the URL at first, and where another page sends the user here with one."""
    draft: Draft | None = st.session_state.get(DRAFT)
    parameters = st.query_params.to_dict()
    if draft is None:
        draft = st.session_state[DRAFT] = Draft.open(parameters, store)
    elif session.came_from() != "serving":
        draft.come_back(parameters, store)
    return draft


def _example_choice(draft: Draft, store: Store) -> None:
    names = example_names()
    key = f"serving:{draft.generation}:example"

    def begin() -> None:
        name = st.session_state[key]
        draft.begin(full_example(name, store), name)

    st.selectbox("start from", names, names.index(draft.base), key=key, on_change=begin, help="a shipped scenario")


def _answer(draft: Draft, store: Store) -> None:
    """The answer to what the widgets say; the last one, where they say what cannot be."""
    run_id = None
    top = st.container()
    with top:
        if draft.mistake:
            error(draft.mistake)
        try:
            run_id = computed(safe_scenario(draft.current, "scenario", store))
        except FleetcastError as mistake:
            error(str(mistake))
    if run_id is not None and session.baseline() is None and draft.current == full_example(draft.base, store):
        session.pin(run_id)
    last: str | None = run_id or st.session_state.get(ANSWERED)
    if last is None:
        scenario_box(draft, store)
        return
    st.session_state[ANSWERED] = last
    shown = store.run(last)
    st.header(as_text(shown.scenario.name), anchor=False)
    if run_id is None:
        st.caption("Below is the last answer, to other settings.")
    _actions(draft, store, last)
    show_answer(shown, _baseline(last, store))


def _baseline(run_id: str, store: Store) -> StoredRun | None:
    """What the answer is set against; nothing, where that is itself or kept no more."""
    pinned = session.baseline()
    if pinned is None or pinned == run_id:
        return None
    try:
        baseline, shown = store.run(pinned), store.run(run_id)
    except FleetcastError as mistake:
        st.caption(as_text(str(mistake)))
        return None
    before, now = baseline.scenario.workload, shown.scenario.workload
    if (before.trace, before.generator) != (now.trace, now.generator):
        name = as_text(baseline.scenario.name)
        st.caption(f"The baseline, {name}, serves other requests, so that no change against it is shown.")
        return None
    return baseline


def _actions(draft: Draft, store: Store, run_id: str) -> None:
    """What one does with an answer."""
    pinned, held = session.baseline() == run_id, run_id in session.basket()
    with st.container(horizontal=True):
        st.button(
            "Is the baseline" if pinned else "Pin as baseline",
            icon=":material/push_pin:",
            key="pin",
            disabled=pinned,
            on_click=session.pin,
            args=(run_id,),
            help="Set other answers against this one.",
        )
        st.button(
            "In the comparison" if held else "Add to comparison",
            icon=":material/add:",
            key="add",
            disabled=held,
            on_click=session.add_to_basket,
            args=(run_id,),
            help="The Compare page sets it beside others.",
        )
        scenario_box(draft, store)
