"""The page of a row's plan, made of its plan.json: the answer, how sure it is, pictures, and all that was tried."""

from __future__ import annotations

from html import escape
from typing import Any

from app.html_page import notes_html, page_html, pictures_html
from app.plan_oversubscribe_console import HEAD, allowed_words, binding_words, lowered_words, row_cells, sure_words
from app.plan_oversubscribe_figures import oversubscription_figures
from app.plan_report import MORE_STYLE, cards_html, table_html
from sim.metrics import plain

PLAIN = ("servers", "brakes", "trips")
TABLE_HEAD = (*(name if name in PLAIN else f"{name}, %" for name in HEAD[:-1]), "breaks")
POLICY_HEAD = ("policy", "safe", "more", "not safe", "which breaks")


def oversubscription_report(found: dict[str, Any]) -> str:
    """The page as one string; it needs no network, and the same plan gives the same page."""
    tables = "".join(
        f"<h2>Under {escape(policy['policy'])}</h2>"
        + table_html(TABLE_HEAD, [trial_cells(row) for row in trials(found, policy["policy"])])
        for policy in found["policies"]
    )
    body = f"""\
<p>Allowed: {escape(allowed_words(found))}.</p>
{_answer(found)}
{pictures_html(oversubscription_figures(found))}
<h2>Policies</h2>{table_html(POLICY_HEAD, [policy_cells(policy) for policy in found["policies"]])}
{tables}
{_confirmed(found)}
{notes_html(found["notes"])}"""
    return page_html(f"{found['name']}: servers behind a breaker", body, MORE_STYLE)


def _confirmed(found: dict[str, Any]) -> str:
    rows = [trial_cells(row) for row in found["confirmation"]]
    return f"<h2>Confirmed by other seeds</h2>{table_html(TABLE_HEAD, rows)}" if rows else ""


def _answer(found: dict[str, Any]) -> str:
    binding, sure = found["binding"], found["sure"]
    text = (
        "" if binding is None else f"<p>Next to bind, with {binding['servers']:,}: {escape(binding_words(binding))}</p>"
    )
    if lowered := lowered_words(found):
        text += f"<p>{escape(lowered[0].upper() + lowered[1:])}.</p>"
    if not found["found"]:
        return f"<p><b class=missed>Not even {found['built_for']:,} servers are safe.</b></p>{text}"
    words = " ".join(sure_words(sure))
    return (
        f'<p><b class="met">{found["servers"]:,} servers{"" if found["bounded"] else " or more"}</b> under'
        f" {escape(found['policy'])}</p>"
        + cards_html(
            ("built for", f"{found['built_for']:,}", "servers"),
            ("more", f"{100.0 * found['oversubscription']:+.0f}", "%"),
            ("limit", plain(found["limit_w"] / 1e3), "kW"),
            ("brakes, at most", plain(sure["most_brakes_per_h"]), f"an hour ({sure['confidence']:.0%})"),
            ("runs that break", f"{sure['most_bad_share']:.0%}", f"at most ({sure['confidence']:.0%})"),
            ("simulations", f"{found['simulations']:,}", ""),
        )
        + f"{text}<p>{escape(words)}</p>"
    )


def trials(found: dict[str, Any], policy: str) -> list[dict[str, Any]]:
    """The numbers that were tried under a policy."""
    return [row for row in found["rows"] if row["policy"] == policy]


def trial_cells(row: dict[str, Any]) -> list[str]:
    """A number of servers under TABLE_HEAD, which has the units."""
    return [cell.removesuffix(" %") for cell in row_cells(row)]


def policy_cells(policy: dict[str, Any]) -> tuple[str, ...]:
    """A policy under POLICY_HEAD."""
    share = policy["oversubscription"]
    return (
        policy["policy"],
        "none" if policy["servers"] is None else f"{policy['servers']:,}",
        "-" if share is None else f"{100.0 * share:+.0f} %",
        "-" if policy["next"] is None else f"{policy['next']:,}",
        policy["refused"] or ", ".join(policy["breaks"]) or "-",
    )
