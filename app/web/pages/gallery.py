"""The Gallery page: published studies beside their simulation, from finished results, each to be opened and changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.validation import Validation, frame_of, overview, read_validation
from app.web.cards import Card
from app.web.components import as_text, cards
from app.web.gallery_study import show_study

TITLE = "Gallery"
ICON = ":material/collections_bookmark:"
STUDY = "study"  # key of the choice, and of the URL


@st.cache_data(show_spinner=False)
def _shipped() -> Validation:
    return read_validation()


def render() -> None:
    """Draw the page."""
    shipped = _shipped()
    frame = frame_of(shipped.rows)
    names = list(dict.fromkeys(frame[STUDY]))
    chosen = st.selectbox("study", names, None, key=STUDY, bind="query-params", placeholder="all published studies")
    if chosen is None:
        _list(overview(frame), shipped)
    else:
        show_study(chosen, shipped)


def _list(table: pd.DataFrame, shipped: Validation) -> None:
    """All studies as cards."""
    st.header("Published results, simulated", anchor=False)
    st.markdown(
        "Each study sets up what a paper describes, simulates it, and puts the published figure beside the simulated"
        " one. Open a study to see every figure with its source, to simulate it again, or to change a knob."
    )
    st.caption(shipped.said())
    total = int(table["judged"].sum())
    cards(
        [
            Card(label="studies", value=str(len(table))),
            Card(label="published figures", value=str(int(table["figures"].sum())), note=f"{total} unseen by any fit"),
        ]
    )
    columns = st.columns(2)
    for number, row in enumerate(table.to_dict("records")):
        with columns[number % 2], st.container(border=True):
            st.markdown(f"**{as_text(row['title'])}**")
            st.caption(as_text(row["paper"]))
            st.markdown(as_text(_error_line(row)))
            st.button("Open the study", key=f"open:{row['study']}", on_click=_choose, args=(row["study"],))


def _error_line(row: Mapping[Any, Any]) -> str:
    figures = f"{int(row['figures'])} published figure{'s' if row['figures'] != 1 else ''}"
    if row["ranges"]:
        figures += f"; {int(row['ranges_met'])} of {int(row['ranges'])} published ranges met"
    if math.isnan(row["median_error_fraction"]):
        return figures
    return (
        f"{figures}; error {row['median_error_fraction']:.0%} in the median, {row['worst_error_fraction']:.0%} at worst"
    )


def _choose(name: str) -> None:
    st.session_state[STUDY] = name
