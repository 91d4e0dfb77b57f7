"""The Plan page: how many GPUs, of which kind, for a demand within an SLO; and how much a deployment sustains."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.plan_figures import plan_figures
from app.web import job_watch, resources
from app.web.cards import Card
from app.web.components import as_text, cards, download, error, figure, table
from app.web.draft import Draft
from app.web.examples import example_names
from app.web.forms.choices import names_for
from app.web.guard import safe_scenario
from app.web.jobs import Job
from app.web.links import open_scenario
from app.web.plans import OBJECTIVES, QUESTIONS, SIZES, KeptPlan, Question, keep, kept, last_line
from app.web.store import Store
from app.web.url_state import full_example
from hardware_models.errors import FleetcastError
from sim.metrics import plain
from sim.scenario_file import load_scenario

TITLE = "Plan"
ICON = ":material/checklist:"
PARAMETER, MISTAKE, SERVING_DRAFT = "plan", "plan.mistake", "serving.draft"
FIRST = ("candidate", "nodes", "gpus", "usd_per_h", "reason")  # columns of a candidate
EXAMPLE = Question(nodes=("dgx-a100-80gb", "dgx-h100", "dgx-h200"), sizes=(4, 8))  # answered when the page is opened


def render() -> None:
    """Draw the page."""
    store = resources.store()
    st.title("What should we buy?", anchor=False)
    with st.sidebar:
        _form(store)
    if mistake := st.session_state.pop(MISTAKE, ""):
        error(mistake)
    plan = _shown(store)
    if plan is not None:
        _one(plan)


def _form(store: Store) -> None:
    scenarios = _scenarios(store)
    name = st.selectbox("scenario", list(scenarios), key="plan:scenario", help="model, workload, SLO and engine")
    kind = st.selectbox("question", list(QUESTIONS), format_func=QUESTIONS.__getitem__, key="plan:question")
    question = Question(kind=kind)
    if kind == "deployment":
        rate = st.number_input("demand, requests/s", 0.0, 1e6, 0.0, key="plan:rate", help="0: the scenario's own rate")
        minimize = st.selectbox("minimize", OBJECTIVES, key="plan:minimize")
        nodes = st.multiselect("servers", names_for("cluster.node", store), list(EXAMPLE.nodes), key="plan:nodes",
                               help="none: one of the catalog for each measured GPU")  # fmt: skip
        sizes = st.multiselect("tensor_parallel_size", SIZES, list(EXAMPLE.sizes), key="plan:sizes")
        question = Question(
            kind=kind, rate_per_s=rate or None, minimize=minimize, nodes=tuple(nodes), sizes=tuple(sizes)
        )
    st.button("Plan", type="primary", icon=":material/play_arrow:", key="plan:start", on_click=_start,
              args=(scenarios[name], question, store))  # fmt: skip


def _scenarios(store: Store) -> dict[str, dict[str, Any]]:
    found = {name: full_example(name, store) for name in example_names()}
    serving: Draft | None = st.session_state.get(SERVING_DRAFT)
    return found if serving is None else {"what the Serving page shows": serving.current} | found


def _start(tables: dict[str, Any], question: Question, store: Store) -> None:
    try:
        plan, command = keep(safe_scenario(tables, "scenario", store), question, store)
    except FleetcastError as mistake:
        st.session_state[MISTAKE] = str(mistake)
        return
    if plan.found is None and not plan.running:
        job_watch.start(command, plan.job_folder)
    st.query_params[PARAMETER] = plan.plan_id


def _shown(store: Store) -> KeptPlan | None:
    """The one of the URL, else the example, which then is searched for."""
    wanted = st.query_params.get(PARAMETER)
    if wanted is None:
        _start(full_example(example_names()[0], store), EXAMPLE, store)
        wanted = st.query_params.get(PARAMETER)
    try:
        return kept(store, wanted) if wanted is not None else None
    except FleetcastError as mistake:
        error(str(mistake))
        return None


def _one(plan: KeptPlan) -> None:
    job = job_watch.watch(plan.job_folder, _progress)
    if job is None:
        return
    found = plan.found
    if found is None:
        error(job_watch.problem(job))
        return
    scenario = load_scenario(plan.job_folder / "scenario.toml")
    st.header(as_text(scenario.name), anchor=False)
    (_capacity if found["question"] == "capacity" else _deployment)(found)
    with st.container(horizontal=True):
        best, report = plan.out / "best.toml", plan.out / "report.html"
        if best.is_file():
            open_scenario(load_scenario(best), "Open the answer in Serving")
            download("Answer (TOML)", best.read_bytes, "best.toml", "plan-best")
        download("Report (HTML)", report.read_bytes, "report.html", "plan-report", "text/html")
    for number, (title, picture) in enumerate(plan_figures(found).items()):
        st.subheader(as_text(title), anchor=False)
        figure(picture, f"plan-{plan.plan_id}-{number}")
    if found["question"] != "capacity":
        st.subheader("Every candidate, and why it lost", anchor=False)
        rows = pd.DataFrame(found["candidates"])
        others = [column for column in rows.columns if column not in (*FIRST, "limits", "settings")]
        table(rows[[*FIRST, *others]], "plan-candidates", "candidates")
    for note in (*found["notes"], *found.get("prices", ())):
        st.caption(as_text(note))


def _progress(job: Job) -> None:
    st.markdown(as_text(last_line(job.stderr())))


def _deployment(found: dict[str, Any]) -> None:
    if not found["found"]:
        st.html('<p class="fc-bottleneck">Nothing among these keeps the SLO.</p>')
        return
    best = found["candidates"][0]
    st.html(f'<p class="fc-bottleneck">{best["nodes"]:,} x {best["node"]}: {best["candidate"]}</p>')
    st.markdown(as_text(best["reason"]))
    price = "-" if best["usd_per_h"] is None else plain(best["usd_per_h"])
    cards([
        Card(label="demand", value=plain(found["rate_per_s"]), unit="requests/s"),
        Card(label="GPUs", value=f"{best['gpus']:,}"),
        Card(label="price", value=price, unit="USD/h", note="list price"),
        Card(label="mean power of the GPUs", value=plain(best["mean_power_w"]), unit="W"),
        Card(label="candidates", value=f"{len(found['candidates']):,}", note=f"{found['simulations']:,} simulations"),
    ])  # fmt: skip


def _capacity(found: dict[str, Any]) -> None:
    if not found["found"]:
        st.html('<p class="fc-bottleneck">No rate keeps the SLO.</p>')
        return
    low, high = found["interval_per_s"]
    safe, hopeful = (found.get(key) for key in ("safe_per_s", "hopeful_per_s"))
    cards([
        Card(label="highest rate", value=plain(found["rate_per_s"]), unit="requests/s",
             note=f"{plain(low)} to {plain(high)} over seeds"),
        Card(label="safe rate", value="none" if safe is None else plain(safe), unit="requests/s",
             note="by the calibration's error bars"),
        Card(label="hopeful rate", value="-" if hopeful is None else plain(hopeful), unit="requests/s"),
    ])  # fmt: skip
