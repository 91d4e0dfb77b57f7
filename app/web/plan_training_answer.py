"""The answer of a search for a training plan: the winner, what a longer step buys, why the others lose, the flags."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from app.plan_training_console import asked_line, training_plan_notes, versus
from app.plan_training_figures import scatters, step_against
from app.plan_training_report import HEAD, plan_cells
from app.training_figures import step_shares
from app.web.cards import Card
from app.web.components import as_text, bottleneck, cards, download, figure, wide_table
from app.web.plans import KeptPlan
from sim.metrics import plain

UNDER = {"plan": "sure", "step, s": "90 % interval, s"}  # columns of HEAD: what stands under them


def show_training_plan(plan: KeptPlan, found: dict[str, Any]) -> None:
    """All of it, but for the links to files, which the page draws for every kind of plan."""
    best = found["best"][0]
    st.html(f'<p class="fc-line">{escape(asked_line(found))}</p>')
    st.html(f'<p class="fc-bottleneck">{escape(best["plan"])}</p>')
    if said := versus(found):
        text = "; ".join(said)
        st.markdown(as_text(f"{text[0].upper()}{text[1:]}."))
    cards(plan_cards(found))
    bottleneck(found["winner"])
    figure(step_shares({"": found["winner"]}), f"plan-{plan.plan_id}-shares")


def show_training_tables(plan: KeptPlan, found: dict[str, Any]) -> None:
    """Pictures and tables."""
    st.subheader("What a longer step buys", anchor=False)
    names = scatters(found)
    name = st.segmented_control("step time against", names, default=names[0], required=True, key="plan:against")
    plans = plan.out / "plans.parquet"
    picture = step_against(found, str(name or names[0]), pd.read_parquet(plans))
    figure(picture, f"plan-{plan.plan_id}-{name}")
    if len(found["front"]) < 2:
        st.caption("No plan that takes a little longer needs a quarter less memory, or fewer GPUs.")
    st.subheader("The fastest", anchor=False)
    st.html(plans_table(found["best"]))
    if len(found["front"]) > 1:
        st.subheader("Less memory, or fewer GPUs, for a longer step", anchor=False)
        st.html(plans_table(found["front"]))
    st.subheader("Why the others lose", anchor=False)
    st.html(losers_table(found["losers"]))
    with st.container(horizontal=True):
        fastest = pd.DataFrame([*found["best"], *found["front"][1:]]).drop_duplicates("plan")
        download(
            "The fastest and the front (CSV)", lambda: fastest.to_csv(index=False).encode(), "fastest.csv", "plan-csv"
        )
        download("Every plan (Parquet)", plans.read_bytes, "plans.parquet", "plan-every")
    st.subheader("Flags of Megatron-LM for the answer", anchor=False)
    flags = " \\\n".join(found["megatron_flags"])
    st.code(flags, language="bash")
    download("Flags (text)", f"{flags}\n".encode, "megatron-flags.txt", "plan-flags", "text/plain")
    for note in (*found["megatron_notes"], *training_plan_notes(found)):
        st.caption(as_text(note))


def plan_cards(found: dict[str, Any]) -> list[Card]:
    """The headline of the winner, its step against the scenario's own plan where that is another one."""
    best, summary, own, space = found["best"][0], found["winner"], found["own"], found["space"]
    low, high = best["step_s_90"]
    delta = ""
    if own is not None and own["plan"] != best["plan"] and own["gpus"] == best["gpus"]:
        delta = f"{1.0 / own['ratio'] - 1.0:+.1%} against the own plan".replace("%", " %")
    return [
        Card(label="step", value=plain(best["step_s"]), unit="s", note=f"90 %: {plain(low)} to {plain(high)}",
             delta=delta, verdict="better" if delta.startswith("-") else ""),
        Card(label="MFU", value=f"{best['mfu'] * 100:.1f}", unit="%"),
        Card(label="tokens/s a GPU", value=plain(summary["tokens_per_s_per_gpu"])),
        Card(label="memory of the fullest GPU", value=f"{best['peak_bytes'] / 1e9:.1f}", unit="GB",
             note=f"of {found['budget_bytes'] / 1e9:.1f} GB"),
        Card(label="pipeline bubbles", value=f"{best['pipeline_bubble_fraction'] * 100:.1f}", unit="%"),
        Card(label="energy of a step", value=plain(best["energy_j_per_step"] / 1e6), unit="MJ"),
        Card(label="plans", value=f"{space['plans']:,}",
             note=f"{space['too_large']:,} do not fit, {space['simulated']:,} simulated"),
    ]  # fmt: skip


def plans_table(rows: Sequence[dict[str, Any]]) -> str:
    """Plans as the report has them, the interval of the step under it, and below the plan whether it is sure."""
    cells = [dict(zip(HEAD, map(escape, plan_cells(row)), strict=True)) for row in rows]
    head = [name for name in HEAD if name not in UNDER.values()]
    body = [[f"{row[name]}{_small(row[UNDER[name]]) if name in UNDER else ''}" for name in head] for row in cells]
    return wide_table(head, body)


def losers_table(rows: Sequence[dict[str, Any]]) -> str:
    """Reasons, each with the plan that came nearest under it."""
    head = ("why", "plans", "the nearest")
    return wide_table(head, [
        [f"{escape(row['why'])}{_small(escape(row['nearest']))}", f"{row['plans']:,}", escape(row["by"])]
        for row in rows
    ])  # fmt: skip


def _small(text: str) -> str:
    return f'<br><span class="fc-small fc-same">{text}</span>' if text not in ("", "-") else ""
