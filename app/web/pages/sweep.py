"""The Sweep page: axes over a scenario, run by the command line's own sweep, watched, stopped, taken up again."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.web import job_watch, resources, session
from app.web.components import as_text, download, error
from app.web.draft import Draft
from app.web.examples import all_example_names
from app.web.families import FAMILIES
from app.web.jobs import Job
from app.web.scenario_page import draft_key
from app.web.store import Store
from app.web.sweep_answer import show_progress, show_sweep
from app.web.sweep_draft import SweepDraft
from app.web.sweep_form import sweep_form
from app.web.sweeps import (
    KeptSweep,
    all_kept,
    check,
    command,
    example_sweep,
    keep,
    kept,
    progress_text,
    title_of,
)
from app.web.url_state import full_example
from hardware_models.errors import FleetcastError
from sim.scenario_file import tables_toml, toml_tables

TITLE = "Sweep"
ICON = ":material/grid_on:"
PARAMETER = "sweep"
DRAFT, SAID, GENERATION, MISTAKE = "sweep.draft", "sweep.said", "sweep.generation", "sweep.mistake"
SHOWN, BARE = "sweep.shown", "sweep.bare"  # the sweep shown last, and what the page without a parameter shows


def render() -> None:
    """Draw the page."""
    store = resources.store()
    with st.sidebar:
        _definition(store)
    shown = _shown(store)
    if mistake := st.session_state.pop(MISTAKE, ""):
        error(mistake)
    st.session_state[SHOWN] = shown.sweep_id
    _one(shown)


def _definition(store: Store) -> None:
    """The form, its start button and its file."""
    draft = _draft(store)
    said = sweep_form(draft, f"sweep:{st.session_state[GENERATION]}:", _bases(draft, store))
    st.session_state[SAID] = said
    said_tables: dict[str, Any] = {}
    points, mistake = 0, ""
    try:
        said_tables = said.tables()
        _, points = check(said_tables, store, resources.settings())
    except FleetcastError as problem:
        mistake = str(problem)
    if mistake:
        error(mistake)
    st.button(
        f"Start {points:,} points" if points else "Start", type="primary", icon=":material/play_arrow:", key="start",
        disabled=bool(mistake), on_click=_start, args=(said_tables, store),
    )  # fmt: skip
    _file_box(said_tables, store)


def _draft(store: Store) -> SweepDraft:
    """What the form begins with: where another page was shown meanwhile, what its widgets, now forgotten, last said."""
    if DRAFT not in st.session_state:
        _begin(example_sweep(store))
    elif session.came_from() != "sweep" and SAID in st.session_state:
        _begin(st.session_state[SAID])
    draft: SweepDraft = st.session_state[DRAFT]
    return draft


def _begin(draft: SweepDraft) -> None:
    """Draw the form anew."""
    st.session_state[DRAFT] = st.session_state[SAID] = draft
    st.session_state[GENERATION] = st.session_state.get(GENERATION, -1) + 1


def _bases(draft: SweepDraft, store: Store) -> dict[str, dict[str, Any]]:
    """Scenarios to vary: the draft's own, what the pages of scenarios show, the shipped ones."""
    found = {f"{draft.base.get('name', 'scenario')} (of this sweep)": draft.base}
    for family in FAMILIES:
        shown: Draft | None = st.session_state.get(draft_key(family))
        if shown is not None:
            found[f"what the {family.title} page shows{f' ({family.choice})' if family.choice else ''}"] = shown.current
    return found | {name: full_example(name, store) for name in all_example_names()}


def _start(tables: dict[str, Any], store: Store) -> None:
    try:
        st.query_params[PARAMETER] = _started(tables, store).sweep_id
    except FleetcastError as problem:
        st.session_state[MISTAKE] = str(problem)


def _started(tables: dict[str, Any], store: Store) -> KeptSweep:
    """Keep a sweep and run it, where it does not run yet; raises FleetcastError."""
    found = keep(check(tables, store, resources.settings())[0], store)
    if not found.state.running:
        job_watch.start(command(found), found.job_folder)
    return found


def _shown(store: Store) -> KeptSweep:
    """The one of the URL, else the one that this session was shown, the newest, or the shipped example, then started.

    A bare URL stays bare: a parameter would be one more step for the browser's back button.
    """
    wanted = st.query_params.get(PARAMETER)
    if wanted is not None:
        try:
            return kept(store, wanted)
        except FleetcastError as mistake:
            error(str(mistake))
    elif session.came_from() != "sweep":
        st.session_state[BARE] = st.session_state.get(SHOWN)
    sweeps = all_kept(store) or [_started(example_sweep(store).tables(), store)]
    found = next((one for one in sweeps if one.sweep_id == st.session_state.get(BARE)), sweeps[0])
    st.session_state[BARE] = found.sweep_id
    return found


def _one(shown: KeptSweep) -> None:
    """A sweep's state and answer."""
    sweep = shown.definition()
    st.header(as_text(sweep.name), anchor=False)
    _others(shown)
    job = job_watch.watch(shown.job_folder, lambda job: _progress(shown, job))
    if job is None:
        return
    why = job_watch.problem(job)
    if why:
        st.warning(as_text(why), icon=":material/stop_circle:")
        st.button("Go on", key="go-on", icon=":material/play_arrow:",
                  on_click=lambda: job_watch.start(command(shown), shown.job_folder))  # fmt: skip
    if (shown.folder / "points.parquet").is_file():
        show_sweep(shown, sweep)


def _progress(shown: KeptSweep, job: Job) -> None:
    """What a running sweep has done."""
    progress = shown.progress()
    mine = progress if progress.get("state") == "running" else {}
    share = mine["done"] / mine["total"] if mine.get("total") else 0.0
    st.progress(share, progress_text(mine))
    if mine and job.poll().running:
        show_progress(shown, shown.definition())


def _others(shown: KeptSweep) -> None:
    """Other sweeps that are kept."""
    sweeps = {sweep.sweep_id: sweep for sweep in all_kept(resources.store())}
    if len(sweeps) < 2:
        return
    ids = list(sweeps)
    chosen = st.selectbox(
        "kept sweeps", ids, ids.index(shown.sweep_id) if shown.sweep_id in ids else 0, key=f"kept:{shown.sweep_id}",
        format_func=lambda one: title_of(sweeps[one]),
    )  # fmt: skip
    if chosen != shown.sweep_id:
        st.query_params[PARAMETER] = chosen
        st.rerun()


def _file_box(tables: dict[str, Any], store: Store) -> None:
    """The sweep as a file: saved for the command line, or read."""
    limit = resources.settings().toml_limit_bytes
    key = f"sweep-file:{st.session_state[GENERATION]}"

    def read() -> None:
        file = st.session_state[key]
        if file is None:
            return
        try:
            _take_over(file.getvalue(), file.name, store, limit)
        except FleetcastError as problem:
            st.session_state[MISTAKE] = str(problem)

    with st.popover("Sweep file", icon=":material/description:"):
        st.file_uploader(
            f"Open a sweep file with its scenario inline (TOML, at most {limit // 1000} kB)", "toml", key=key,
            on_change=read, max_upload_size=1,
        )  # fmt: skip
        if tables:
            download("Save (TOML)", tables_toml(tables).encode, "sweep.toml", "sweep-save")
            st.caption("`fleetcast sweep sweep.toml --out DIR` runs the same.")


def _take_over(content: bytes, origin: str, store: Store, limit_bytes: int) -> None:
    """Begin the form anew from a sweep file; raises FleetcastError, and then nothing changed."""
    if len(content) > limit_bytes:
        raise FleetcastError(f"{origin}: has {len(content):,} bytes; a sweep here has at most {limit_bytes:,}")
    tables = toml_tables(content, origin)
    check(tables, store, resources.settings())
    _begin(SweepDraft.of_tables(tables, tables["scenario"]))
