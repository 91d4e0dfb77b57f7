"""A page of a kind of scenario: its knobs at the side, its answer beside them, computed anew when a knob changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import streamlit as st

from app.web import resources, session
from app.web.components import as_text, error
from app.web.draft import Draft
from app.web.examples import example_names
from app.web.families import Family, check_family
from app.web.forms.form import scenario_form
from app.web.forms.widgets import Drawer
from app.web.guard import safe_any
from app.web.scenario_box import scenario_box
from app.web.store import Store
from app.web.url_state import full_example
from app.web.waiting import computed
from hardware_models.errors import FleetcastError
from sim.scenario_file import AnyScenario
from sim.stored_run import StoredOffloadedInference, StoredRun, StoredTraining

Run = TypeVar("Run", StoredRun, StoredTraining, StoredOffloadedInference)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioPage(Generic[Run]):
    """What the page of a kind does its own way; the rest is the same for all."""

    family: Family
    kind: type[Run]
    show: Callable[[Run, Run | None, dict[str, Any]], None]  # an answer, its baseline, and what the widgets say
    unlike: Callable[[Run, Run], str]  # why two runs are not set against each other; empty: they are
    simulated: Callable[[AnyScenario], AnyScenario] = lambda scenario: scenario  # what is run of what is asked

    def render(self) -> None:
        """Draw the page."""
        store, name = resources.store(), self.family.name
        draft = self._draft(store)
        with st.sidebar:
            self._example_choice(draft, store)
            news = draft.say(scenario_form(draft.start, Drawer(f"{name}:{draft.generation}:", store), self.family))
        parameters = st.query_params.to_dict()
        if not news and draft.url and parameters != draft.url:  # the browser's back button
            draft.turn_to(parameters, store)
            st.rerun()
        url = draft.new_url(store)
        if url is not None:
            st.query_params.from_dict(url)
        self._answer(draft, store)

    def _draft(self, store: Store) -> Draft:
        """The session's; opened from the URL at first, and where another page sends the user here with one."""
        key = draft_key(self.family)
        draft: Draft | None = st.session_state.get(key)
        parameters = st.query_params.to_dict()
        if draft is None:
            draft = st.session_state[key] = Draft.open(parameters, store, self.family)
        elif session.came_from() != self.family.page:
            draft.come_back(parameters, store)
        return draft

    def _example_choice(self, draft: Draft, store: Store) -> None:
        names = example_names(self.family)
        key = f"{self.family.name}:{draft.generation}:example"

        def begin() -> None:
            name = st.session_state[key]
            draft.begin(full_example(name, store), name)

        st.selectbox("start from", names, names.index(draft.base), key=key, on_change=begin, help="a shipped scenario")

    def _answer(self, draft: Draft, store: Store) -> None:
        """The answer to what the widgets say; the last one, where they say what cannot be."""
        run_id, answered = None, f"{self.family.name}.answered"
        with st.container():
            if draft.mistake:
                error(draft.mistake)
            try:
                scenario = safe_any(draft.current, "scenario", store)
                check_family(scenario, self.family, "scenario")
                run_id = computed(self.simulated(scenario))
            except FleetcastError as mistake:
                error(str(mistake))
        baseline = session.baseline(self.family.name)
        if run_id is not None and baseline is None and draft.current == full_example(draft.base, store):
            session.pin(run_id, self.family.name)
        last: str | None = run_id or st.session_state.get(answered)
        if last is None:
            scenario_box(draft, store)
            return
        st.session_state[answered] = last
        shown = self._run(last, store)
        st.header(as_text(shown.scenario.name), anchor=False)
        if run_id is None:
            st.caption("Below is the last answer, to other settings.")
        self._actions(draft, store, last)
        self.show(shown, self._baseline(last, shown, store), draft.current)

    def _run(self, run_id: str, store: Store) -> Run:
        """A kept run of this kind; raises FleetcastError for another."""
        run = store.run(run_id)
        if not isinstance(run, self.kind):
            raise FleetcastError(f"run {run_id}: is none of {self.family.name}")
        return run

    def _baseline(self, run_id: str, shown: Run, store: Store) -> Run | None:
        """What the answer is set against; nothing, where that is itself or kept no more."""
        pinned = session.baseline(self.family.name)
        if pinned is None or pinned == run_id:
            return None
        try:
            baseline = self._run(pinned, store)
        except FleetcastError as mistake:
            st.caption(as_text(str(mistake)))
            return None
        if why := self.unlike(baseline, shown):
            name = as_text(baseline.scenario.name)
            st.caption(f"The baseline, {name}, {why}, so that no change against it is shown.")
            return None
        return baseline

    def _actions(self, draft: Draft, store: Store, run_id: str) -> None:
        """What one does with an answer."""
        pinned, held = session.baseline(self.family.name) == run_id, run_id in session.basket()
        with st.container(horizontal=True):
            st.button(
                "Is the baseline" if pinned else "Pin as baseline",
                icon=":material/push_pin:",
                key="pin",
                disabled=pinned,
                on_click=session.pin,
                args=(run_id, self.family.name),
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


def draft_key(family: Family) -> str:
    """Where a session keeps what the page of a kind shows."""
    return f"{family.name}.draft"
