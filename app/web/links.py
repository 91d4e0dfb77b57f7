"""Ways from one page to another, with what the other shall open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.web import resources
from app.web.families import family_of
from app.web.guard import bare_tables
from app.web.url_state import query
from sim.scenario_file import AnyScenario


def open_scenario(scenario: AnyScenario, label: str) -> None:
    """A link that opens a scenario in the page of its kind; `{page}` in the label is that page's title."""
    store, family = resources.store(), family_of(scenario)
    parameters = query(family.default, bare_tables(scenario, store), store)
    open_page(family.page, parameters, label.format(page=family.title))


def open_page(path: str, parameters: Mapping[str, Any], label: str, icon: str = ":material/open_in_new:") -> None:
    """A link to a page of the registry."""
    from app.web.frame import pages

    st.page_link(pages()[path], label=label, icon=icon, query_params=dict(parameters))
