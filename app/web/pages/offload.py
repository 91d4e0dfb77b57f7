"""The Offload page: a model larger than the GPU's memory, trained or served from host memory and drives."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from app.web import resources
from app.web.draft import Draft
from app.web.examples import example_tables
from app.web.families import OFFLOAD, OFFLOADED_INFERENCE, Family, family_of
from app.web.offload_answer import show_offloaded_inference, show_offloaded_step
from app.web.pages.training import without_check
from app.web.scenario_page import ScenarioPage, draft_key
from app.web.url_state import BASE, query
from hardware_models.errors import FleetcastError
from sim.stored_run import StoredOffloadedInference, StoredTraining

TITLE = OFFLOAD.title
ICON = ":material/layers:"
KINDS = {family.choice: family for family in (OFFLOAD, OFFLOADED_INFERENCE)}
KIND, LAST = "offload:kind", "offload.last"


def render() -> None:
    """Draw the page."""
    with st.sidebar:
        family = _family()
    if family is OFFLOAD:
        ScenarioPage(
            family=OFFLOAD, kind=StoredTraining, show=show_offloaded_step, unlike=_unlike, simulated=without_check
        ).render()
    else:
        ScenarioPage(
            family=OFFLOADED_INFERENCE, kind=StoredOffloadedInference, show=show_offloaded_inference, unlike=_unlike
        ).render()


def _family() -> Family:
    """Of which kind the URL's scenario is; without one, the kind shown last."""
    family = KINDS[st.session_state.get(LAST, OFFLOAD.choice)]
    with suppress(FleetcastError):  # a base that nobody knows, which the page says
        if BASE in st.query_params:
            own = family_of(example_tables(st.query_params[BASE]))
            family = KINDS.get(own.choice, family)
    st.session_state[LAST] = st.session_state[KIND] = family.choice
    st.segmented_control(
        "beyond a GPU's memory", list(KINDS), required=True, key=KIND, on_change=_turn, label_visibility="collapsed"
    )
    return family


def _turn() -> None:
    """To the other kind: its scenario as it was left, or its example."""
    family, store = KINDS[st.session_state[KIND]], resources.store()
    draft: Draft | None = st.session_state.get(draft_key(family))
    parameters = {BASE: family.default} if draft is None else query(draft.base, draft.current, store)
    st.query_params.from_dict(parameters)
    if draft is not None:
        draft.come_back(parameters, store)


def _unlike(
    baseline: StoredTraining | StoredOffloadedInference, shown: StoredTraining | StoredOffloadedInference
) -> str:
    before, now = baseline.scenario.model.config, shown.scenario.model.config
    return "" if before == now else "runs another model"
