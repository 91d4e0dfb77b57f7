"""The Hardware page: every constant with its source, two devices side by side, and copies with figures changed."""

from __future__ import annotations

import streamlit as st

from app.web.hardware_compare import show_comparison
from app.web.hardware_copy import show_copy
from app.web.hardware_lookup import show_lookup

TITLE = "Hardware"
ICON = ":material/memory:"
VIEWS = {"look up": show_lookup, "compare": show_comparison, "edit a copy": show_copy}


def render() -> None:
    """Draw the page."""
    view = st.segmented_control(
        "view", list(VIEWS), default="look up", required=True, key="view", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    VIEWS[view or "look up"]()
