"""The form of a sweep: its scenario, axes, how they are drawn, and what makes a point good."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.web.sweep_draft import DRAWN, METHODS, SweepDraft, axis_keys
from app.web.sweeps import MOST_POINTS
from sim.sweep.columns import SWEEP_METRICS

AXES_MOST = 12
WORDS = {
    "grid": "every combination of the values",
    "list": "the first values together, the second ones together, ...",
    "lhs": "a Latin hypercube: drawn, each axis evenly",
    "random": "drawn independently",
}
EXAMPLES = "`64, 128, 256`, or `16 to 512 log in 6`; names as they are: `bf16, fp8`"


def sweep_form(draft: SweepDraft, prefix: str, bases: dict[str, dict[str, Any]]) -> SweepDraft:
    """Draw the widgets, beginning with `draft`; returns what they say.

    prefix: of the widgets' keys, new for a form begun anew. bases: titles of scenarios to vary, with their tables.
    """
    name = st.text_input("name", draft.name, max_chars=60, key=f"{prefix}name")
    base = st.selectbox("scenario", list(bases), key=f"{prefix}base", help="what the axes vary")
    st.markdown(":gray[**axes**]", help=EXAMPLES)
    axes = _axes(draft, prefix)
    method = st.selectbox(
        "method", METHODS, METHODS.index(draft.method), key=f"{prefix}method", format_func=lambda m: f"{m}: {WORDS[m]}"
    )
    samples = draft.samples
    if method in DRAWN:
        most = max(MOST_POINTS, draft.samples)  # a file's constraints may leave few enough of more
        samples = st.number_input("samples", 1, most, draft.samples, key=f"{prefix}samples")
    st.markdown(":gray[**goal**]")
    direction = st.segmented_control(
        "direction", ("minimize", "maximize"), default=draft.direction, required=True, key=f"{prefix}direction",
        label_visibility="collapsed",
    )  # fmt: skip
    metrics = list(SWEEP_METRICS)
    metric = st.selectbox(
        "metric", metrics, metrics.index(draft.metric), key=f"{prefix}metric", format_func=_metric_title
    )
    limits = st.text_area("limits, a line each", draft.limits, key=f"{prefix}limits", height=68, max_chars=2000,
                          help="such as `ttft_s.p99 <= 500ms`")  # fmt: skip
    with st.expander("seeds and constraints"):
        seeds = st.text_input("seeds", draft.seeds, key=f"{prefix}seeds", max_chars=200,
                              help="each setting runs once with each; empty: the scenario's own")  # fmt: skip
        constraints = st.text_area(
            "constraints, a line each", draft.constraints, key=f"{prefix}constraints", height=68, max_chars=2000,
            help="conditions on the axes, such as `serving.max_num_batched_tokens >= serving.max_num_seqs`",
        )  # fmt: skip
    return SweepDraft(
        name, bases[base], axes, method, int(samples), seeds, constraints, str(direction), metric, limits, draft.other
    )


def _axes(draft: SweepDraft, prefix: str) -> list[tuple[str, str]]:
    """A row an axis, with a row to spare."""
    keys = list(dict.fromkeys(["", *axis_keys(), *(key for key, _ in draft.axes)]))
    count_key = f"{prefix}axes"
    count = st.session_state.setdefault(count_key, max(1, len(draft.axes)))
    found = []
    for number in range(count):
        key, text = draft.axes[number] if number < len(draft.axes) else ("", "")
        chosen = st.selectbox(
            f"axis {number + 1}", keys, keys.index(key), key=f"{prefix}axis{number}", placeholder="a key",
            format_func=lambda key: key or "(none)", label_visibility="collapsed",
        )  # fmt: skip
        values = st.text_input(
            f"values of axis {number + 1}", text, key=f"{prefix}values{number}", max_chars=2000,
            label_visibility="collapsed", placeholder="values: 64, 128 or 16 to 512 log in 6",
        )  # fmt: skip
        found.append((chosen, values))

    def another() -> None:
        st.session_state[count_key] = count + 1

    st.button(
        "Another axis", icon=":material/add:", on_click=another, key=f"{prefix}another", disabled=count >= AXES_MOST
    )
    return found


def _metric_title(key: str) -> str:
    return f"{key}: {SWEEP_METRICS[key].name}"
