"""A plan's page, made of its plan.json: the answer first, then pictures, then every candidate with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.offline

from app.html_report import PLOT_CONFIG, STYLE
from app.plan_figures import plan_figures
from sim.metrics import plain

MORE_STYLE = "td:last-child, th:last-child { text-align: left; font-size: .85rem; }"
HOUR_HEAD = ("hours", "type", "running", "requests/s", "SLO", "seconds simulated", "reached")
TITLES = {"deployment": "deployment", "capacity": "highest rate", "day": "fleet for a day"}


def plan_report(found: dict[str, Any]) -> str:
    """The page as one string; it needs no network, and the same plan gives the same page."""
    body = {"deployment": _deployment, "capacity": _capacity, "day": _day}[found["question"]](found)
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*found["notes"], *found.get("prices", ())))
    title = f"{escape(found['name'])}: {TITLES[found['question']]}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Fleetcast</title><style>{STYLE}{MORE_STYLE}</style>
<script>{plotly.offline.get_plotlyjs()}</script></head><body>
<h1>{title}</h1>
<p>{_asked(found)}</p>
{body}
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
</body></html>
"""


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
            + _cards(
                ("demand", plain(found["rate_per_s"]), "requests/s"),
                ("GPUs", f"{best['gpus']:,}", ""),
                ("price", _number(best["usd_per_h"]), "USD/h"),
                ("mean power", _number(best["mean_power_w"]), "W"),
                ("electricity", _number(best["energy_usd_per_day"]), "USD/day"),
                ("simulations", f"{found['simulations']:,}", ""),
                ("not simulated", f"{found['untried']:,}", "numbers of nodes"),
            )
        )
    head = ("candidate", "status", "nodes", "GPUs", "USD/h", "least nodes, proved", "why")
    table = _table(
        head,
        [
            (
                row["candidate"], row["status"], _number(row["nodes"]), _number(row["gpus"]), _number(row["usd_per_h"]),
                _number(row["least_nodes"]), row["reason"],
            )
            for row in rows
        ],
    )  # fmt: skip
    return f"{answer}{_pictures(found)}<h2>Every candidate</h2>{table}"


def _capacity(found: dict[str, Any]) -> str:
    if not found["found"]:
        return "<p><b class=missed>No rate keeps the SLO.</b></p>"
    low, high = found["interval_per_s"]
    cards = _cards(
        ("highest rate", _number(found["rate_per_s"]), "requests/s"),
        (f"{found['confidence']:.0%} interval", f"{_number(low)} to {_number(high)}", ""),
        ("safe by error bars", _number(found["safe_per_s"]), "requests/s"),
        ("hopeful by error bars", _number(found["hopeful_per_s"]), "requests/s"),
        ("proved most", _number(found["proved_per_s"]), "requests/s"),
        ("simulations", f"{found['simulations']:,}", ""),
    )
    rows = [(str(one["seed"]), _number(one["kept_per_s"]), _number(one["broken_per_s"])) for one in found["seeds"]]
    return f"{cards}{_pictures(found)}<h2>Seeds</h2>{_table(('seed', 'kept, requests/s', 'broken, requests/s'), rows)}"


def _day(found: dict[str, Any]) -> str:
    fleet = found["fleet"]
    if fleet is None or not found["found"]:
        answer = "<p><b class=missed>No fleet keeps the SLO in every hour.</b></p>"
    else:
        over = f"over {found['hours_planned']} hours"
        answer = _cards(
            ("cost", _number(fleet["usd"]), f"USD {over}"),
            ("bound of the programme", _number(fleet["bound_usd"]), f"USD {over}"),
            ("with fractions of nodes", _number(fleet["relaxed_usd"]), f"USD {over}"),
            ("best single type, not simulated", _number((found["single"] or {}).get("usd")), f"USD {over}"),
            ("best that runs all hours, not simulated", _number((found["static"] or {}).get("usd")), f"USD {over}"),
            ("energy of the GPUs", _number(found["energy_kwh"]), f"kWh {over}"),
        )
    types = [
        (one["name"], _number(one["gpus"]), _number(one["usd_per_h"]), _number(one["capacity_per_s"]),
         _number(one["usd_per_million_requests"]))
        for one in found["types"]
    ]  # fmt: skip
    hours = [
        (", ".join(map(str, hour["hours"])), hour["type"], f"{hour['running']:,}", _number(hour["rate_per_s"]),
         ("met" if hour["met"] else "missed") if hour["simulated"] else "no requests", _number(hour["simulated_s"]),
         ", ".join(f"{key} {_number(value)}" for key, value in hour["limits"].items()))
        for hour in found["hours"]
    ]  # fmt: skip
    derated = [
        (one["type"], _number(one["before_per_s"]), _number(one["after_per_s"]), str(one["hours"]), one["why"])
        for one in found["derated"]
    ]
    left_out = list(found["left_out"].items())
    return (
        f"<p>Demand: {escape(found['demand_source'])}</p>{answer}{_pictures(found)}"
        f"<h2>Types</h2>{_table(('type', 'GPUs', 'USD/h', 'requests/s', 'USD/million requests'), types)}"
        + (f"{_table(('left out', 'why'), left_out)}" if left_out else "")
        + (f"<h2>Rated down</h2>{_table(('type', 'before', 'after', 'in hours', 'why'), derated)}" if derated else "")
        + f"<h2>Hours, as simulated</h2>{_table(HOUR_HEAD, hours)}"
    )


def _cards(*cards: tuple[str, str, str]) -> str:
    shown = "".join(
        f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b> <small>{escape(unit)}</small></div>'
        for name, value, unit in cards
    )
    return f'<div class="cards">{shown}</div>'


def _pictures(found: dict[str, Any]) -> str:
    html = ""
    for number, (title, figure) in enumerate(plan_figures(found).items(), start=1):
        picture = figure.to_html(
            full_html=False, include_plotlyjs=False, config=PLOT_CONFIG, div_id=f"figure-{number}", default_width="100%"
        )
        html += f'<h2>{escape(title)}</h2><div class="wide">{picture}</div>'
    return html


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _number(value: float | None) -> str:
    return "-" if value is None else plain(value)
