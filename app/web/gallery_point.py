"""One point of a study: opened as a scenario, or simulated with a knob changed, beside the published figure."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from typing import Any

import pandas as pd
import streamlit as st

from app.validation import frame_of, rows_in
from app.web import resources
from app.web.cards import Card
from app.web.components import as_text, cards, error
from app.web.families import OFFLOAD, OFFLOADED_INFERENCE, POWER, SERVING, TRAINING, Family, family_of
from app.web.forms.knobs import MISSING, Group, Knob, lookup, put, scenario_groups
from app.web.forms.widgets import Drawer
from app.web.guard import bare_tables, safe_any
from app.web.job_watch import problem, start, watch
from app.web.jobs import Job
from app.web.links import open_scenario
from hardware_models.errors import FleetcastError
from sim.identity import simulator_fingerprint
from sim.metrics import plain
from sim.scenario_file import toml_value
from sim.study import Point, Study, point_of, scenario_of
from sim.study_scenario import point_scenario, reads_as

POINT, KNOB = "point", "knob"  # keys of the choices, and of the URL
FIRST_KNOBS = {
    SERVING.name: "serving.engine",
    TRAINING.name: "training.framework",
    POWER.name: "power.actuation_delay_s",
    OFFLOAD.name: "offload.policy",
    OFFLOADED_INFERENCE.name: "offload.policy",
}  # by the kind of scenario


def show_point(name: str, study: Study, frame: pd.DataFrame) -> pd.DataFrame | None:
    """Draw it; returns the point with the change that was simulated, if any."""
    published = frame[frame["published_low"].notna()]
    names = [*published["point"], *frame.loc[frame["published_low"].isna(), "point"]]
    st.subheader("One figure", anchor=False)
    if st.session_state.get(POINT) not in names:
        st.session_state.pop(POINT, None)  # another study's
    chosen = st.selectbox("figure", names, key=POINT, bind="query-params")
    row = frame[frame["point"] == chosen].iloc[0]
    point = point_of(study, chosen, f"study {name}")
    assumed = json.loads(row["assumed"])
    left, right = st.columns([1, 1])
    with left:
        _figures(row, point)
        if not study.opens:
            st.caption("Only the study asks this: no page runs such a point.")
            return None
        _openings(study, point, assumed, frame)
    with right, st.container(border=True):
        return _changed(name, study, point, assumed, row)


def _figures(row: pd.Series, point: Point) -> None:
    unit = str(row["unit"]) or point.metric
    found = [Card(label="simulated", value=plain(row["simulated"]), unit=unit, note=_band(row["low"], row["high"]))]
    if not math.isnan(row["published_low"]):
        found.insert(0, Card(label="published", value=_range(row), unit=unit, note=str(row["source"])))
        found.append(Card(label="error", value=_error(row), note=_seen(row)))
    cards(found)


def _openings(study: Study, point: Point, assumed: dict[str, Any], frame: pd.DataFrame) -> None:
    """Links to the page of its kind: the point, and what it is divided by."""
    if assumed:
        said = ", ".join(f"{key} = {value}" for key, value in assumed.items())
        st.caption(as_text(f"The paper leaves open, and this figure takes: {said}."))
    open_scenario(point_scenario(study, point, assumed, _rate(point, frame)), "Open as a scenario")
    if point.baseline is not None:
        baseline = point_of(study, point.baseline, study.title)
        scenario = point_scenario(study, baseline, assumed, _rate(baseline, frame))
        open_scenario(scenario, "Open what it is divided by")
    st.caption(f"The figure to look at there: {reads_as(point)}.")


def _rate(point: Point, frame: pd.DataFrame) -> float | None:
    """The rate of a capacity: the figure, or, of a ratio, the figure times that of its baseline."""
    if point.metric != "capacity_per_s":
        return None
    figures = frame.set_index("point")["simulated"]
    return float(figures[point.name]) * (float(figures[point.baseline]) if point.baseline is not None else 1.0)


def _changed(name: str, study: Study, point: Point, assumed: dict[str, Any], row: pd.Series) -> pd.DataFrame | None:
    """A form for one knob, and its simulated figure."""
    st.markdown("**Change a knob**")
    store = resources.store()
    scenario = scenario_of(study, point, assumed, f"point '{point.name}'")
    tables = bare_tables(scenario, store)
    family = family_of(scenario)
    knobs, first = _knobs(family, point), FIRST_KNOBS[family.name]
    if st.session_state.get(KNOB) not in knobs:
        st.session_state.pop(KNOB, None)  # another kind's
    key = st.selectbox(
        "knob", list(knobs), list(knobs).index(first), key=KNOB, bind="query-params", help=knobs[first][0].help
    )
    knob, group = knobs[key]
    value = Drawer(f"gallery:{name}:{point.name}:", store).draw(
        knob, lookup(tables, key), tuple(other.name for other in group.knobs)
    )
    try:
        override = _override(tables, key, value)
    except FleetcastError as mistake:
        error(str(mistake))
        return None
    digest = hashlib.sha256(repr((name, point.name, override, simulator_fingerprint())).encode()).hexdigest()[:16]
    folder = store.jobs / f"knob-{digest}"
    arguments = ["validate", name, "--point", point.name, "--set", override, "--json"]
    same = value == lookup(tables, key)
    running = (job := Job.read(folder)) is not None and job.poll().running
    st.button(
        "Simulate with this", icon=":material/play_arrow:", disabled=same or running, key=f"knob:{point.name}",
        on_click=start, args=(arguments, folder, resources.settings().time_limit_s),
        help="Also of what the figure is divided by, where it is a ratio.",
    )  # fmt: skip
    ended = None if same else watch(folder, _progress)
    if ended is None:
        return None
    if why := problem(ended):
        error(why)
        return None
    changed = frame_of(rows_in(ended.stdout()))
    _beside(changed.iloc[0], row)
    return changed


def _progress(job: Job) -> None:
    st.progress(0.0, f"simulating, {job.poll().elapsed_s:,.0f} s")


def _beside(changed: pd.Series, row: pd.Series) -> None:
    """The changed figure against the unchanged and the published one."""
    note = f"{changed['simulated'] / row['simulated'] - 1:+.1%} against {plain(row['simulated'])}"
    found = [Card(label="changed", value=plain(changed["simulated"]), unit=str(changed["unit"]), note=note)]
    if not math.isnan(changed["error_fraction"]):
        found.append(Card(label="error against the paper", value=_error(changed)))
    cards(found)


def _knobs(family: Family, point: Point) -> dict[str, tuple[Knob, Group]]:
    """What may be changed: what the model runs on and how, and for whole runs of serving what it serves."""
    sections = {"model", "cluster", family.name, family.section, "training"} | (
        set() if point.step is not None else {"workload"}
    )
    groups = [group for group in scenario_groups(family.model) if group.name in sections]
    return {knob.key: (knob, group) for group in groups for knob in group.knobs}


def _override(tables: dict[str, Any], key: str, value: Any) -> str:
    """`--set` for the change, an own file by its path, `key=` where it is absent; raises FleetcastError for what
    cannot be.
    """
    changed = copy.deepcopy(tables)
    put(changed, key, None if value is MISSING else value)
    found = lookup(safe_any(changed, "the change", resources.store()).model_dump(exclude_none=True), key)
    return f"{key}={'' if found is MISSING else toml_value(found)}"


def _band(low: float, high: float) -> str:
    return f"{plain(low)} to {plain(high)}, as the paper leaves open" if high > low else ""


def _range(row: pd.Series) -> str:
    low, high = row["published_low"], row["published_high"]
    return plain(low) if low == high else f"{plain(low)} to {plain(high)}"


def _error(row: pd.Series) -> str:
    ranged = row["published_high"] > row["published_low"]
    return "in range" if ranged and row["error_fraction"] == 0.0 else f"{row['error_fraction']:+.1%}"


def _seen(row: pd.Series) -> str:
    return "a fit has seen this figure" if row["in_sample"] else ""
