"""Every other figure of a server as a table to write changes into, which are kept while the table is off the page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.web.components import error
from app.web.own_hardware import figure_text
from hardware_models.errors import FleetcastError
from hardware_models.specs import Spec
from hardware_models.variation import Change, changeable, parse_change

WRITTEN = "hardware.written"  # server -> figure -> change, as last written
TABLE = "hardware.table"


@dataclass(frozen=True, slots=True)
class _Table:
    """A table under way: Streamlit adds what is edited to what it began with, which therefore stays as it is."""

    original: str
    number: int
    began_with: dict[str, str]

    @property
    def key(self) -> str:
        return f"figures:{self.number}"


def figure_changes(original: str, parts: Mapping[str, Spec], asked: Collection[str]) -> list[Change]:
    """Draw it without keys in `asked`; what is no change is said. parts: as changes name them (empty: the server)."""
    table = _table(original)
    rows = [
        {"figure": full, "now": figure_text(spec, key), "change": table.began_with.get(full, "")}
        for part, spec in parts.items()
        for key in changeable(spec)
        if (full := f"{part}.{key}" if part else key) not in asked
    ]
    st.caption(
        "Write a factor (0.5x) or a value in the units of the key (2e-6). The network matters across nodes only."
    )
    edited = st.data_editor(
        pd.DataFrame(rows), hide_index=True, disabled=["figure", "now"], key=table.key, height=320,
        column_config={"change": st.column_config.TextColumn("change", max_chars=40)},
    )  # fmt: skip
    written = {str(row["figure"]): str(row["change"] or "").strip() for row in edited.to_dict("records")}
    st.session_state[WRITTEN][original] = written
    found = []
    for figure, change in written.items():
        if change:
            try:
                found.append(parse_change(f"{figure}={change}"))
            except FleetcastError as mistake:
                error(str(mistake))
    return found


def forget_changes(original: str) -> None:
    """Begin with an empty table."""
    st.session_state.setdefault(WRITTEN, {}).pop(original, None)
    st.session_state[TABLE] = None


def _table(original: str) -> _Table:
    """The one under way; a new one for another server, and where Streamlit forgot it with a page that was left."""
    table: _Table | None = st.session_state.get(TABLE)
    if table is None or table.original != original or table.key not in st.session_state:
        written = st.session_state.setdefault(WRITTEN, {}).get(original, {})
        number = st.session_state.get(f"{TABLE}.number", 0) + 1
        st.session_state[f"{TABLE}.number"] = number
        table = st.session_state[TABLE] = _Table(original, number, dict(written))
    return table
