"""The Compare page: runs of the basket side by side, what was set differently, what came of it, and why."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from string import ascii_uppercase

import streamlit as st

from app.compare import RunFolder, different_settings, paired_sentence, reason
from app.compare_figures import LATENCIES, compared_cdfs
from app.training_figures import step_shares, step_times
from app.web import resources, session
from app.web.comparison_table import comparison_csv, comparison_html, settings_html
from app.web.components import as_text, download, error, figure
from app.web.examples import example_names
from app.web.families import FAMILIES, OFFLOAD, OFFLOADED_INFERENCE, POWER, SERVING, TRAINING, Family, family_of
from app.web.guard import bare_tables, safe_scenario
from app.web.store import RUN_ID, Store
from app.web.url_state import full_example, query
from app.web.waiting import computed
from hardware_models.errors import FleetcastError
from sim.stored_run import AnyRun, StoredRun, StoredTraining

TITLE = "Compare"
ICON = ":material/compare_arrows:"
SHIPPED = ("chat-70b-prefill-first", "chat-70b-chunked")
URL = "compare.url"
PENDING = "compare.pending"  # shipped scenarios still to be simulated
BASELINE = "baseline"
SURE = {  # by family: what bars say of a change
    SERVING.name: "Error bars are each run's own. Runs on the same hardware and software share most of what the"
    " calibration does not know, so that a difference between them is surer than their bars say.",
    POWER.name: "Error bars are each run's own. Runs on the same hardware share most of what they do not know, so that"
    " a difference between them is surer than their bars say.",
    TRAINING.name: "Error bars are each run's own; a change is called better or worse by its own bar, in which errors"
    " of kernels, links and software that both runs share cancel.",
}
SURE |= {OFFLOAD.name: SURE[TRAINING.name], OFFLOADED_INFERENCE.name: SURE[POWER.name]}


def render() -> None:
    """Draw the page."""
    st.title(TITLE, anchor=False)
    store = resources.store()
    _follow_url(store)
    _simulate_pending(store)
    runs = _readable(store)
    kinds = {family: _of_family(runs, family) for family in FAMILIES}
    several = sum(1 for found in kinds.values() if found) > 1
    for family, found in kinds.items():
        if found:
            if several:
                st.header(family.heading, anchor=False)
            _comparison(family, found, store)
    if runs:
        st.button("Clear", key="clear", icon=":material/delete:", on_click=session.set_basket, args=([],))
    else:
        _nothing_yet()
    _add_folder(store)
    _show_url()


def _follow_url(store: Store) -> None:
    """Take the basket from the URL, where it says something that this session has not written itself."""
    runs, baselines = st.query_params.get_all("run"), st.query_params.get_all(BASELINE)
    if not runs or (runs, baselines) == st.session_state.get(URL):
        return
    st.session_state[URL] = (runs, baselines)
    session.set_basket(runs)
    for baseline in baselines:
        with suppress(FleetcastError):  # one that is not kept any more is said below
            session.pin(baseline, family_of(store.run(baseline).scenario).name)


def _show_url() -> None:
    """So that the page can be shared."""
    basket = session.basket()
    pinned = [session.baseline(family.name) for family in FAMILIES]
    baselines = [run for run in pinned if run is not None and run in basket]
    st.session_state[URL] = (basket, baselines)
    if (st.query_params.get_all("run"), st.query_params.get_all(BASELINE)) != (basket, baselines):
        st.query_params.from_dict({"run": basket, **({BASELINE: baselines} if baselines else {})})


def _simulate_pending(store: Store) -> None:
    """Fill the basket with the shipped scenarios that a press of the button asked for."""
    for name in list(st.session_state.get(PENDING, ())):
        run_id = computed(safe_scenario(full_example(name, store), name, store))
        if run_id is None:
            return
        session.add_to_basket(run_id)
        if name == SHIPPED[0]:
            session.pin(run_id, SERVING.name)
        st.session_state[PENDING].remove(name)


def _readable(store: Store) -> dict[str, AnyRun]:
    """Name in the basket to run; what cannot be read is said and left out."""
    found: dict[str, AnyRun] = {}
    for name in session.basket():
        try:
            found[name] = store.run(name)
            RunFolder.read(found[name].folder)
        except FleetcastError as mistake:
            found.pop(name, None)
            error(str(mistake))
            st.button("Remove it", key=f"remove-{name}", on_click=session.remove_from_basket, args=(name,))
    return found


def _of_family(runs: dict[str, AnyRun], family: Family) -> dict[str, AnyRun]:
    """Those of a kind, the baseline first."""
    baseline = session.baseline(family.name)
    names = sorted(runs, key=lambda name: name != baseline)
    return {name: runs[name] for name in names if family_of(runs[name].scenario) is family}


def _nothing_yet() -> None:
    st.info(
        "Nothing to compare yet. Press *Add to comparison* beside an answer of another page, or"
        " begin with two shipped scenarios: the same chat traffic, chunked prefill against prefill first."
    )
    st.button(
        "Compare the two shipped scenarios", type="primary", key="fill",
        on_click=lambda: st.session_state.update({PENDING: list(SHIPPED)}),
    )  # fmt: skip


def _comparison(family: Family, runs: dict[str, AnyRun], store: Store) -> None:
    folders = []
    for letter, run in zip(ascii_uppercase, runs.values(), strict=False):
        folders.append(replace(RunFolder.read(run.folder), name=f"{letter}: {run.scenario.name}"))
    for name, folder in zip(runs, folders, strict=True):
        _run_row(family, name, folder.name, runs[name], _role(family, name, runs), store)
    if len(folders) == 1:
        st.info("One run so far: add another to see what differs.")
    else:
        st.subheader("Why", anchor=False)
        for folder in folders[1:]:
            st.markdown(f"**{as_text(folder.name)}** against {as_text(folders[0].name)}: "
                        f"{as_text(reason(folders[0], folder))}")  # fmt: skip
            if sure := paired_sentence(folders[0].summary, folder.summary):
                st.caption(as_text(f"{sure[0].upper()}{sure[1:]}."))
        st.subheader("What was set differently", anchor=False)
        st.html(settings_html(folders, different_settings(folders)))
    titled = {folder.name: run for folder, run in zip(folders, runs.values(), strict=True)}
    _curves({title: run for title, run in titled.items() if isinstance(run, StoredRun)})
    _steps({title: run for title, run in titled.items() if isinstance(run, StoredTraining)})
    st.subheader("What came of it", anchor=False)
    st.caption(SURE[family.name])
    st.html(comparison_html(folders))
    download("Figures (CSV)", lambda: comparison_csv(folders), "comparison.csv", f"compare-csv-{family.name}")


def _role(family: Family, name: str, runs: dict[str, AnyRun]) -> str:
    """What a run is to the others: where the baseline is not among them, the first one stands in for it."""
    if name == session.baseline(family.name):
        return BASELINE
    return "the others are set against it" if len(runs) > 1 and name == next(iter(runs)) else ""


def _run_row(family: Family, name: str, title: str, run: AnyRun, role: str, store: Store) -> None:
    """A run of the basket and what one does with it."""
    with st.container(border=True, horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.markdown(f"**{as_text(title)}**" + (f" ({role})" if role else ""), width="content")
        buttons = st.container(width="content", horizontal=True)
    with buttons:
        if role != BASELINE:
            st.button("Make baseline", key=f"pin-{name}", on_click=session.pin, args=(name, family.name))
        if RUN_ID.fullmatch(name) and st.button(f"Open in {family.title}", key=f"open-{name}"):
            session.open_page(family.page, _parameters(family, run, store))
        st.button("Remove", key=f"remove-{name}", on_click=session.remove_from_basket, args=(name,))


def _parameters(family: Family, run: AnyRun, store: Store) -> dict[str, str]:
    """Of the URL that asks for a run again; pages run plans of training without the check that these ask for."""
    tables = bare_tables(run.scenario, store)
    if "training" in tables:
        tables["training"]["check_memory"] = True
    name = run.scenario.name
    return query(name if name in example_names(family) else family.default, tables, store)


def _curves(runs: dict[str, StoredRun]) -> None:
    """Overlaid latency curves, of the latency chosen."""
    if not runs:
        return
    st.subheader("Latency of requests", anchor=False)
    key = st.segmented_control(
        "latency", list(LATENCIES), default="ttft_s", format_func=LATENCIES.__getitem__, required=True, key="latency"
    )
    column = str(key or "ttft_s")
    limits: dict[float, str] = {}
    for run in runs.values():
        limit = getattr(run.scenario.slo, {"max_tbt_s": "tbt_s"}.get(column, column), None)
        if limit is not None:
            limits[limit] = "SLO"
    figure(compared_cdfs({title: run.requests for title, run in runs.items()}, column, limits), "curves")


def _steps(runs: dict[str, StoredTraining]) -> None:
    """Steps of training with their error bars, and where they go."""
    if not runs:
        return
    summaries = {title: run.summary for title, run in runs.items()}
    st.subheader("Time of a step", anchor=False)
    figure(step_times(summaries), "compared-steps")
    st.subheader("Where the step goes", anchor=False)
    figure(step_shares(summaries), "compared-shares")


def _add_folder(store: Store) -> None:
    """A run that the command line has made, inside the app's folder."""
    with st.expander("Add a run of the command line"):
        st.caption(f"`fleetcast run SCENARIO --out {store.root}/NAME` puts one where the app may read it.")
        name = st.text_input("folder, by its path inside the app's runs folder", key="folder", max_chars=200)
        if st.button("Add", key="add-folder") and name:
            try:
                store.run(name)
            except FleetcastError as mistake:
                error(str(mistake))
                return
            session.add_to_basket(name)
            st.rerun()
