"""The answer of how many servers a breaker carries: the number, how sure it is, and why every other one is not it."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from app.plan_oversubscribe_console import allowed_words, binding_words, lowered_words, sure_words
from app.plan_oversubscribe_figures import oversubscription_figures
from app.plan_oversubscribe_report import POLICY_HEAD, TABLE_HEAD, policy_cells, trial_cells, trials
from app.web.cards import Card
from app.web.components import as_text, cards, figure, wide_table
from app.web.plans import KeptPlan
from sim.metrics import plain

NARROW_FIRST = "3rem"


def show_row_plan(_plan: KeptPlan, found: dict[str, Any]) -> None:
    """The answer, but for the links to files, which the page draws for every kind of plan."""
    if found["found"]:
        more = "" if found["bounded"] else " or more"
        text = f"{found['servers']:,} servers{more} under {found['policy']}, where the breaker was built for"
    else:
        text = f"Under {found['policy']} the row is not safe even with"
    st.html(f'<p class="fc-bottleneck">{escape(text)} {found["built_for"]:,}.</p>')
    said = [f"Allowed: {allowed_words(found)}."]
    if (binding := found["binding"]) is not None:
        said.append(f"Next to bind, with {binding['servers']:,}: {binding_words(binding)}.")
    if lowered := lowered_words(found):
        said.append(f"{lowered[0].upper()}{lowered[1:]}.")
    st.html("".join(f'<p class="fc-line">{escape(line)}</p>' for line in said))
    cards(row_cards(found))
    if found["sure"] is not None:
        st.caption(as_text(" ".join(sure_words(found["sure"]))))


def row_cards(found: dict[str, Any]) -> list[Card]:
    """The headline; a number that is none is a dash."""
    sure = found["sure"]
    shown = [
        Card(label="servers", value="-" if found["servers"] is None else f"{found['servers']:,}",
             note=f"built for {found['built_for']:,}"),
        Card(label="more", value="-" if found["servers"] is None else f"{100.0 * found['oversubscription']:+.0f}",
             unit="%"),
        Card(label="limit of the row", value=plain(found["limit_w"] / 1e3), unit="kW"),
    ]  # fmt: skip
    if sure is not None:
        at = f"with {sure['confidence']:.0%} confidence"
        shown.append(Card(label="brakes, at most", value=plain(sure["most_brakes_per_h"]), unit="an hour", note=at))
        shown.append(Card(label="runs that break, at most", value=f"{sure['most_bad_share']:.0%}", note=at))
    return [*shown, Card(label="simulations", value=f"{found['simulations']:,}")]


def show_row_tables(plan: KeptPlan, found: dict[str, Any]) -> None:
    """Pictures, and every number that was tried with what it breaks."""
    for number, (title, picture) in enumerate(oversubscription_figures(found).items()):
        st.subheader(as_text(title), anchor=False)
        figure(picture, f"plan-{plan.plan_id}-{number}")
    st.subheader("Policies", anchor=False)
    st.html(_table(POLICY_HEAD, [policy_cells(policy) for policy in found["policies"]], "8rem"))
    st.subheader("Every number of servers, and why it is not safe", anchor=False)
    for policy in found["policies"]:
        rows = trials(found, policy["policy"])
        if rows:
            st.markdown(f"**{as_text(policy['policy'])}**")
            st.html(_trials(rows))
    if found["confirmation"]:
        st.markdown("**confirmed by other seeds**")
        st.html(_trials(found["confirmation"]))
    st.caption(
        "Peaks are of readings, over the limit; latencies are end to end, against the same servers and requests"
        " without a limit; pairs are low to high over seeds."
    )
    for note in found["notes"]:
        st.caption(as_text(note))


def _trials(rows: list[dict[str, Any]]) -> str:
    """What a number breaks before its figures, of which a narrow page shows the first."""
    lines = [TABLE_HEAD, *(trial_cells(row) for row in rows)]
    head, *cells = [(*line[:2], line[-1], *line[2:-1]) for line in lines]
    return _table(head, cells, NARROW_FIRST)


def _table(head: tuple[str, ...], rows: list[Any], first: str) -> str:
    return wide_table([escape(name) for name in head], [[escape(cell) for cell in row] for row in rows], first)
