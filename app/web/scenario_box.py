"""The scenario as a TOML file: read from the user's disk, edited as text, saved; and uploads that it may name."""

from __future__ import annotations

import hashlib

import streamlit as st

from app.web import resources
from app.web.components import download, error
from app.web.draft import Draft
from app.web.families import check_family
from app.web.guard import bare_tables, safe_any
from app.web.store import UPLOAD_SUFFIXES, Store
from hardware_models.errors import FleetcastError
from sim.scenario_file import tables_toml, toml_tables

MEGABYTE = 1_000_000


def scenario_box(draft: Draft, store: Store) -> None:
    """A popover with all of it."""
    limits = resources.settings()
    text = tables_toml(draft.current)
    with st.popover("Scenario file", icon=":material/description:"):
        _file_widget(draft, store, limits.toml_limit_bytes)
        _text_widgets(text, draft, store, limits.toml_limit_bytes)
        _upload_widget(store, limits.upload_limit_bytes)


def take_over(content: bytes, origin: str, draft: Draft, store: Store, limit_bytes: int) -> None:
    """Begin anew from a TOML document; raises FleetcastError, and then nothing changed."""
    if len(content) > limit_bytes:
        raise FleetcastError(
            f"{origin}: has {len(content):,} bytes; a scenario here has at most {limit_bytes:,}: give a scenario file"
        )
    scenario = safe_any(toml_tables(content, origin), origin, store)
    check_family(scenario, draft.family, origin)
    draft.begin(bare_tables(scenario, store))


def _file_widget(draft: Draft, store: Store, limit_bytes: int) -> None:
    key = f"toml-file:{draft.generation}"

    def read() -> None:
        file = st.session_state[key]
        if file is not None:
            _try(file.getvalue(), file.name, draft, store, limit_bytes)

    st.file_uploader(
        f"Open a scenario file (TOML, at most {limit_bytes // 1000} kB)", "toml", key=key, on_change=read,
        max_upload_size=1,
    )  # fmt: skip


def _text_widgets(text: str, draft: Draft, store: Store, limit_bytes: int) -> None:
    key = f"toml-text:{draft.generation}:{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def apply() -> None:
        _try(st.session_state[key].encode(), "text", draft, store, limit_bytes)

    st.text_area("or edit it", text, height=320, key=key, max_chars=limit_bytes)
    with st.container(horizontal=True):
        st.button("Apply", key="toml-apply", on_click=apply, type="primary")
        download("Save (TOML)", text.encode, "scenario.toml", "toml-save")


def _try(content: bytes, origin: str, draft: Draft, store: Store, limit_bytes: int) -> None:
    try:
        take_over(content, origin, draft, store, limit_bytes)
    except FleetcastError as mistake:
        draft.mistake = str(mistake)


def _upload_widget(store: Store, limit_bytes: int) -> None:
    """A trace or a model's config.json of the user's own; the knobs list it by its name from then on."""
    files = st.file_uploader(
        f"Your own traces (CSV, JSON lines, Parquet) and model configs (at most {limit_bytes // MEGABYTE} MB)",
        [suffix.removeprefix(".") for suffix in UPLOAD_SUFFIXES],
        accept_multiple_files=True,
        key="uploads",
        on_change=_keep_uploads,
        args=(store, limit_bytes),
        max_upload_size=limit_bytes // MEGABYTE,
    )
    if files:
        mistakes = st.session_state.get("uploads.mistakes", [])
        for mistake in mistakes:
            error(mistake)
        if len(mistakes) < len(files):
            st.success("Kept: choose it by its name as trace or model.")


def _keep_uploads(store: Store, limit_bytes: int) -> None:
    mistakes = []
    for file in st.session_state["uploads"]:
        try:
            store.keep_upload(file.name, file.getvalue(), limit_bytes)
        except FleetcastError as mistake:
            mistakes.append(str(mistake))
    st.session_state["uploads.mistakes"] = mistakes
