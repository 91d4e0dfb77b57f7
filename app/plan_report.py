"""A plan's page, made of its plan.json: the answer first, then pictures, then every candidate with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from app.html_page import card_html, notes_html, page_html, pictures_html
from app.plan_figures import plan_figures
from sim.metrics import plain

MORE_STYLE = "td:last-child, th:last-child { text-align: left; font-size: .85rem; }"
HOUR_HEAD = ("hours", "type", "running", "requests/s", "SLO", "seconds simulated", "reached")
DERATED_HEAD = ("type", "before", "after", "in hours", "why")
TITLES = {"deployment": "deployment", "capacity": "highest rate", "day": "fleet for a day"}


def plan_report(found: dict[str, Any]) -> str:
    """The page as one string; it needs no network, and the same plan gives the same page."""
    body = {"deployment": _deployment, "capacity": _capacity, "day": _day}[found["question"]](found)
    notes = notes_html((*found["notes"], *found.get("prices", ())))
    title = f"{found['name']}: {TITLES[found['question']]}"
    return page_html(title, f"<p>{_asked(found)}</p>\n{body}\n{notes}", MORE_STYLE)


def _asked(found: dict[str, Any]) -> str:
    slo = {key: value for key, value in found["slo"].items() if key != "percentile"}
    limits = (
        ", ".join(f"{escape(key)} &le; {value:g}" for key, value in slo.items()) or "no limits: a queue that settles"
    )
    return f"Asked: {limits}; p{found['slo']['percentile']:g} of all requests."


def _deployment(found: dict[str, Any]) -> str:
    rows = found["candidates"]
    if not found["found"]:
        answer = "<p><b class=missed>Nothing in the space keeps the SLO.</b></p>"
    else:
        best = rows[0]
        answer = (
            f'<p><b class="met">{best["nodes"]:,} x {escape(best["node"])}</b>, {escape(best["candidate"])}:'
            f" {escape(best['reason'])}</p>"
            + cards_html(
                ("demand", plain(found["rate_per_s"]), "requests/s"),
                ("GPUs", f"{best['gpus']:,}", ""),
                ("price", number_text(best["usd_per_h"]), "USD/h"),
                ("mean power", number_text(best["mean_power_w"]), "W"),
                ("electricity", number_text(best["energy_usd_per_day"]), "USD/day"),
                ("simulations", f"{found['simulations']:,}", ""),
                ("not simulated", f"{found['untried']:,}", "numbers of nodes"),
            )
        )
    head = ("candidate", "status", "nodes", "GPUs", "USD/h", "least nodes, proved", "why")
    table = table_html(
        head,
        [
            (
                row["candidate"], row["status"], number_text(row["nodes"]), number_text(row["gpus"]),
                number_text(row["usd_per_h"]), number_text(row["least_nodes"]), row["reason"],
            )
            for row in rows
        ],
    )  # fmt: skip
    return f"{answer}{pictures_html(plan_figures(found))}<h2>Every candidate</h2>{table}"


def _capacity(found: dict[str, Any]) -> str:
    if not found["found"]:
        return "<p><b class=missed>No rate keeps the SLO.</b></p>"
    low, high = found["interval_per_s"]
    cards = cards_html(
        ("highest rate", number_text(found["rate_per_s"]), "requests/s"),
        (f"{found['confidence']:.0%} interval", f"{number_text(low)} to {number_text(high)}", ""),
        ("safe by error bars", number_text(found["safe_per_s"]), "requests/s"),
        ("hopeful by error bars", number_text(found["hopeful_per_s"]), "requests/s"),
        ("proved most", number_text(found["proved_per_s"]), "requests/s"),
        ("simulations", f"{found['simulations']:,}", ""),
    )
    head = ("seed", "kept, requests/s", "broken, requests/s")
    rows = [
        (str(one["seed"]), number_text(one["kept_per_s"]), number_text(one["broken_per_s"])) for one in found["seeds"]
    ]
    return f"{cards}{pictures_html(plan_figures(found))}<h2>Seeds</h2>{table_html(head, rows)}"


def _day(found: dict[str, Any]) -> str:
    fleet = found["fleet"]
    if fleet is None or not found["found"]:
        answer = "<p><b class=missed>No fleet keeps the SLO in every hour.</b></p>"
    else:
        over = f"over {found['hours_planned']} hours"
        answer = cards_html(
            ("cost", number_text(fleet["usd"]), f"USD {over}"),
            ("bound of the programme", number_text(fleet["bound_usd"]), f"USD {over}"),
            ("with fractions of nodes", number_text(fleet["relaxed_usd"]), f"USD {over}"),
            ("best single type, not simulated", number_text((found["single"] or {}).get("usd")), f"USD {over}"),
            ("best that runs all hours, not simulated", number_text((found["static"] or {}).get("usd")), f"USD {over}"),
            ("energy of the GPUs", number_text(found["energy_kwh"]), f"kWh {over}"),
        )
    types = [
        (one["name"], number_text(one["gpus"]), number_text(one["usd_per_h"]), number_text(one["capacity_per_s"]),
         number_text(one["usd_per_million_requests"]))
        for one in found["types"]
    ]  # fmt: skip
    hours = [
        (", ".join(map(str, hour["hours"])), hour["type"], f"{hour['running']:,}", number_text(hour["rate_per_s"]),
         ("met" if hour["met"] else "missed") if hour["simulated"] else "no requests", number_text(hour["simulated_s"]),
         ", ".join(f"{key} {number_text(value)}" for key, value in hour["limits"].items()))
        for hour in found["hours"]
    ]  # fmt: skip
    derated = [
        (one["type"], number_text(one["before_per_s"]), number_text(one["after_per_s"]), str(one["hours"]), one["why"])
        for one in found["derated"]
    ]
    left_out = list(found["left_out"].items())
    return (
        f"<p>Demand: {escape(found['demand_source'])}</p>{answer}{pictures_html(plan_figures(found))}"
        f"<h2>Types</h2>{table_html(('type', 'GPUs', 'USD/h', 'requests/s', 'USD/million requests'), types)}"
        + (f"{table_html(('left out', 'why'), left_out)}" if left_out else "")
        + (f"<h2>Rated down</h2>{table_html(DERATED_HEAD, derated)}" if derated else "")
        + f"<h2>Hours, as simulated</h2>{table_html(HOUR_HEAD, hours)}"
    )


def cards_html(*cards: tuple[str, str, str]) -> str:
    """Cards in a row, each a name, a value and its unit."""
    return f'<div class="cards">{"".join(card_html(*card) for card in cards)}</div>'


def table_html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def number_text(value: float | None) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else plain(value)
