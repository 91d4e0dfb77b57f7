"""The form of a sweep: its scenario, axes, how they are drawn, and what makes a point good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.web.families import OFFLOAD, OFFLOADED_INFERENCE, POWER, SERVING, TRAINING, Family, family_of
from app.web.sweep_draft import DRAWN, METHODS, SweepDraft, axis_keys
from app.web.sweeps import MOST_POINTS
from sim.sweep.columns import SWEEP_METRICS, metrics_of

AXES_MOST = 12
WORDS = {
    "grid": "every combination of the values",
    "list": "the first values together, the second ones together, ...",
    "lhs": "a Latin hypercube: drawn, each axis evenly",
    "random": "drawn independently",
}
GOALS = {  # begun with; as all below by kind of scenario
    SERVING.name: "ttft_s.p99",
    TRAINING.name: "step_s",
    POWER.name: "power.row_peak_fraction",
    OFFLOAD.name: "step_s",
    OFFLOADED_INFERENCE.name: "decode_step_s",
}
LIMITS = {
    SERVING.name: "ttft_s.p99 <= 500ms",
    TRAINING.name: "memory.peak_bytes <= 70GB",
    POWER.name: "power.brakes <= 0",
    OFFLOAD.name: "offload.tiers.host.peak_bytes <= 200GB",
    OFFLOADED_INFERENCE.name: "memory.host.peak_bytes <= 200GB",
}
CONSTRAINTS = {
    SERVING.name: "serving.max_num_batched_tokens >= serving.max_num_seqs",
    TRAINING.name: "training.tensor_parallel_size * training.pipeline_parallel_size <= 64",
    POWER.name: "serving.replicas == cluster.nodes",
    OFFLOAD.name: "training.micro_batch_size <= training.global_batch_size",
    OFFLOADED_INFERENCE.name: "workload.output_tokens <= workload.prompt_tokens",
}
EXAMPLES = "`64, 128, 256`, or `16 to 512 log in 6`; names as they are: `bf16, fp8`"


def sweep_form(draft: SweepDraft, prefix: str, bases: dict[str, dict[str, Any]]) -> SweepDraft:
    """Draw the widgets, beginning with `draft`; returns what they say.

    prefix: of the widgets' keys, new for a form begun anew. bases: titles of scenarios to vary, with their tables.
    """
    first = st.container()
    base = st.selectbox("scenario", list(bases), key=f"{prefix}base", help="what the axes vary")
    st.markdown(":gray[**axes**]", help=EXAMPLES)
    family = family_of(bases[base])
    if family_of(draft.base) is not family:  # what it asks of one kind means nothing to the other
        prefix, draft = f"{prefix}{family.name}:", _begun_anew(draft, bases[base], family)
    name = first.text_input("name", draft.name, max_chars=60, key=f"{prefix}name")
    axes = _axes(draft, prefix, axis_keys(family, bases[base]))
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
    metrics = list(metrics_of(bases[base]))
    metric = st.selectbox(
        "metric", metrics, metrics.index(draft.metric), key=f"{prefix}metric", format_func=_metric_title
    )
    limits = st.text_area("limits, a line each", draft.limits, key=f"{prefix}limits", height=68, max_chars=2000,
                          help=f"such as `{LIMITS[family.name]}`")  # fmt: skip
    with st.expander("seeds and constraints"):
        seeds = st.text_input("seeds", draft.seeds, key=f"{prefix}seeds", max_chars=200,
                              help="each setting runs once with each; empty: the scenario's own")  # fmt: skip
        constraints = st.text_area(
            "constraints, a line each", draft.constraints, key=f"{prefix}constraints", height=68, max_chars=2000,
            help=f"conditions on the axes, such as `{CONSTRAINTS[family.name]}`",
        )  # fmt: skip
    return SweepDraft(
        name, bases[base], axes, method, int(samples), seeds, constraints, str(direction), metric, limits, draft.other
    )


def _begun_anew(draft: SweepDraft, base: dict[str, Any], family: Family) -> SweepDraft:
    """Of another kind of scenario: drawn by the same method, without axes and limits."""
    name = f"{family.name} sweep"
    return SweepDraft(name, base, [], draft.method, draft.samples, draft.seeds, metric=GOALS[family.name])


def _axes(draft: SweepDraft, prefix: str, known: Sequence[str]) -> list[tuple[str, str]]:
    """A row an axis, with a row to spare."""
    keys = list(dict.fromkeys(["", *known, *(key for key, _ in draft.axes)]))
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
