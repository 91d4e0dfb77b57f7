"""Every constant that a forecast rests on, to be searched."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.hardware_figures import bandwidth_against_peak
from app.hardware_view import constants, search
from app.web import resources
from app.web.cards import Card
from app.web.components import cards, figure, table
from app.web.own_hardware import own_specs
from hardware_models import catalog

GRADES = {
    "measured": "on the device",
    "quoted": "by its maker or a paper",
    "assumed": "derived or guessed",
}


@st.cache_data(show_spinner=False)
def _shipped() -> pd.DataFrame:
    return constants()


def show_lookup() -> None:
    """Draw it."""
    st.header("What forecasts rest on", anchor=False)
    own = list(own_specs(resources.store()))
    everything = constants(own) if own else _shipped()
    kinds = list(dict.fromkeys(everything["kind"]))
    left, right = st.columns([2, 1])
    text = left.text_input("search", key="q", bind="query-params", placeholder="h100 bandwidth", max_chars=200)
    kind = right.selectbox("kind", kinds, None, key="kind", bind="query-params", placeholder="everything")
    found = everything if kind is None else everything[everything["kind"] == kind]
    found = search(found, text or "")
    counts = found["grade"].value_counts()
    cards(
        [
            Card(label="constants", value=f"{len(found):,}", note=f"of {len(everything):,}"),
            *(Card(label=grade, value=f"{int(counts.get(grade, 0)):,}", note=note) for grade, note in GRADES.items()),
        ]
    )
    if len(found):
        table(found, key="constants", file_name="fleetcast-constants")
    else:
        st.info("Nothing has all of these words.")
    st.subheader("All GPUs", anchor=False)
    st.caption(
        "Memory bandwidth against dense 16-bit arithmetic; the area of a mark is its memory. Along a grey line the"
        " balance of both is equal: the more flop a byte, the more work a byte must bring to keep the arithmetic busy."
    )
    names = catalog.names("gpu")
    marked = [name for name in names if name in set(found["name"])] if text else []
    figure(bandwidth_against_peak([catalog.gpu(name) for name in names], marked[:6]), key="all-gpus")
