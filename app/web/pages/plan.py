"""The Plan page: how many GPUs, of which kind, for a demand within an SLO; what a deployment sustains; what trains a
model fastest; how many servers a breaker carries.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from app.plan_figures import plan_figures
from app.web import job_watch, resources
from app.web.cards import Card
from app.web.components import as_text, cards, download, error, figure, table
from app.web.families import POWER, SERVING, TRAINING, Family
from app.web.guard import safe_any
from app.web.jobs import Job
from app.web.links import open_scenario
from app.web.plan_form import Asked, example, plan_form
from app.web.plan_row_answer import show_row_plan, show_row_tables
from app.web.plan_training_answer import show_training_plan, show_training_tables
from app.web.plans import KeptPlan, keep, kept, last_line
from app.web.store import Store
from hardware_models.errors import FleetcastError
from sim.metrics import plain
from sim.scenario_file import load_any

TITLE = "Plan"
ICON = ":material/checklist:"
PARAMETER, MISTAKE, FAMILY, LAST = "plan", "plan.mistake", "plan:family", "plan.last"
FIRST = ("candidate", "nodes", "gpus", "usd_per_h", "reason")  # columns of a candidate
PLANNED = {family.name: family for family in (SERVING, TRAINING, POWER)}
TITLES = {
    SERVING.name: "What should we buy?",
    TRAINING.name: "What trains fastest?",
    POWER.name: "How many servers does the breaker carry?",
}


def render() -> None:
    """Draw the page."""
    store = resources.store()
    with st.sidebar:
        family = _family(store)
        asked = plan_form(family, store)
        st.button("Plan", type="primary", icon=":material/play_arrow:", key="plan:start", on_click=_start,
                  args=(asked, family, store))  # fmt: skip
    st.title(TITLES[family.name], anchor=False)
    if mistake := st.session_state.pop(MISTAKE, ""):
        error(mistake)
    plan = _shown(family, store)
    if plan is not None:
        _one(plan)


def _family(store: Store) -> Family:
    """Of which kind of scenario the question is: as the plan of the URL at first, or the one shown last."""
    last: dict[str, str] = st.session_state.setdefault(LAST, {})
    begin = next(reversed(last), SERVING.name)
    with suppress(FleetcastError):  # one that is not kept any more is said below
        if PARAMETER in st.query_params:
            own = kept(store, st.query_params[PARAMETER]).family.name
            begin = own if own in PLANNED else begin
    name = st.segmented_control(
        "plan for", list(PLANNED), default=begin, required=True, key=FAMILY, on_change=_forget,
        format_func=lambda one: PLANNED[one].title,
    )  # fmt: skip
    return PLANNED[str(name or begin)]


def _forget() -> None:
    """The plan of the URL, which is of another kind."""
    st.query_params.pop(PARAMETER, None)


def _start(asked: Asked, family: Family, store: Store) -> None:
    tables, question = asked
    try:
        plan, command = keep(safe_any(tables, "scenario", store), question, store)
    except FleetcastError as mistake:
        st.session_state[MISTAKE] = str(mistake)
        return
    if plan.found is None and not plan.running:
        job_watch.start(command, plan.job_folder)
    _show(plan, family)


def _show(plan: KeptPlan, family: Family) -> None:
    """Put it into the URL, and keep it for when the page is opened again."""
    st.query_params[PARAMETER] = plan.plan_id
    last = st.session_state[LAST]
    last.pop(family.name, None)
    last[family.name] = plan.plan_id


def _shown(family: Family, store: Store) -> KeptPlan | None:
    """The one of the URL, else the last of the kind, else the example, which then is searched for."""
    wanted = st.query_params.get(PARAMETER) or st.session_state[LAST].get(family.name)
    if wanted is None and family is POWER:
        st.info(
            "Press *Plan*. Servers are added until the breaker or the users notice: some twenty runs of the row, each"
            " of half an hour of traffic here, on all processors."
        )
        return None
    if wanted is None:
        _start(example(family, store), family, store)
        wanted = st.query_params.get(PARAMETER)
    try:
        plan = kept(store, wanted) if wanted is not None else None
    except FleetcastError as mistake:
        error(str(mistake))
        return None
    if plan is not None:
        _show(plan, family)
    return plan


def _one(plan: KeptPlan) -> None:
    job = job_watch.watch(plan.job_folder, _progress)
    if job is None:
        return
    found = plan.found
    if found is None:
        error(job_watch.problem(job))
        return
    scenario = load_any(plan.job_folder / "scenario.toml")
    st.header(as_text(scenario.name), anchor=False)
    headline, rest = ANSWERS.get(found["question"], (_deployment, _show_serving))
    headline(plan, found)
    with st.container(horizontal=True):
        best, report = plan.out / "best.toml", plan.out / "report.html"
        if best.is_file():
            open_scenario(load_any(best), "Open the answer in {page}")
            download("Answer (TOML)", best.read_bytes, "best.toml", "plan-best")
        download("Report (HTML)", report.read_bytes, "report.html", "plan-report", "text/html")
    rest(plan, found)


def _show_serving(plan: KeptPlan, found: dict[str, Any]) -> None:
    """Pictures, candidates and notes."""
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


def _deployment(_plan: KeptPlan, found: dict[str, Any]) -> None:
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


def _capacity(_plan: KeptPlan, found: dict[str, Any]) -> None:
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


ANSWERS = {  # by the question: what is shown above the links to files, and below them
    "capacity": (_capacity, _show_serving),
    "training": (show_training_plan, show_training_tables),
    "oversubscription": (show_row_plan, show_row_tables),
}
