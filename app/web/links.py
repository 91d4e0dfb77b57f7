"""Ways from one page to another, with what the other shall open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.web import resources
from app.web.examples import DEFAULT
from app.web.guard import bare_tables
from app.web.url_state import query
from sim.scenario import Scenario


def open_scenario(scenario: Scenario, label: str) -> None:
    """A link that opens a scenario in the Serving page."""
    store = resources.store()
    open_page("serving", query(DEFAULT, bare_tables(scenario, store), store), label)


def open_page(path: str, parameters: Mapping[str, Any], label: str, icon: str = ":material/open_in_new:") -> None:
    """A link to a page of the registry."""
    from app.web.frame import pages

    st.page_link(pages()[path], label=label, icon=icon, query_params=dict(parameters))
