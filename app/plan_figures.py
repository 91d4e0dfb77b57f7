"""The pictures of a plan, from the JSON of its plan.json."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, styled

COLOURS = {"winner": GREEN, "meets": BLUE, "misses": RED}
NAMES = {"winner": "the answer", "meets": "meets the SLO", "misses": "misses it"}
POOLS = (BLUE, ORANGE, GREEN, SKY, PURPLE, RED)
FLEETS = (("fleet", "Capacity that runs, and demand"), ("static", "The best that runs all hours, not simulated"))
HEIGHT = 380


def plan_figures(found: dict[str, Any]) -> dict[str, go.Figure]:
    """Title to figure, in the order of reading."""
    if found["question"] == "capacity":
        return {"Highest rate of each seed": seed_rates(found)} if found["found"] else {}
    if found["question"] == "day":
        return {
            title: figure
            for fleet, title in FLEETS
            if found[fleet] is not None
            for figure in [fleet_by_hour(found, fleet)]
        }
    frame = candidate_frame(found["candidates"])
    return {"Price, and how near the limits": candidates(frame)} if len(frame) else {}


def candidate_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Simulated candidates that have a price: candidate, status, nodes, usd_per_h, worst (reached over limit)."""
    seen = [
        {
            "candidate": row["candidate"],
            "status": row["status"],
            "nodes": row["nodes"],
            "usd_per_h": row["usd_per_h"],
            "worst": max(limit["reached"] / limit["limit"] for limit in row["limits"].values()),
        }
        for row in rows
        if row["limits"] and row["usd_per_h"] is not None
        and all(limit["reached"] is not None for limit in row["limits"].values())
    ]  # fmt: skip
    return pd.DataFrame(seen, columns=["candidate", "status", "nodes", "usd_per_h", "worst"])


def candidates(frame: pd.DataFrame) -> go.Figure:
    """Each simulated candidate by price and by its tightest limit; below the line the SLO is kept."""
    figure = go.Figure()
    for status, colour in COLOURS.items():
        part = frame[frame["status"] == status]
        figure.add_scatter(
            x=part["usd_per_h"],
            y=part["worst"],
            mode="markers",
            name=NAMES[status],
            marker={"color": colour, "size": 13 if status == "winner" else 8},
            text=[f"{name}, {nodes} nodes" for name, nodes in zip(part["candidate"], part["nodes"], strict=True)],
            hovertemplate="%{text}: %{x:,.2f} USD/h, %{y:.2f} of the limit<extra></extra>",
        )
    figure.add_hline(y=1.0, line={"dash": "dash", "color": "#555"}, annotation_text="SLO")
    figure.update_yaxes(title="reached over limit, the tightest (2: at least)", rangemode="tozero")
    figure.update_xaxes(title="USD/h", rangemode="tozero")
    return styled(figure, HEIGHT)


def seed_rates(found: dict[str, Any]) -> go.Figure:
    """The rate that each seed sustains, the interval of their mean, and the other bounds of the rate."""
    seeds = [one for one in found["seeds"] if one["broken_per_s"] is not None]
    figure = go.Figure()
    figure.add_scatter(
        x=[str(one["seed"]) for one in seeds],
        y=[(one["kept_per_s"] + one["broken_per_s"]) / 2 for one in seeds],
        error_y={
            "type": "data",
            "array": [(one["broken_per_s"] - one["kept_per_s"]) / 2 for one in seeds],
        },
        mode="markers",
        marker={"color": BLUE, "size": 9},
        name="a seed, between kept and broken",
    )
    low, high = found["interval_per_s"]
    if low is not None and high is not None:
        figure.add_hrect(y0=low, y1=high, fillcolor=SKY, opacity=0.3, line_width=0)
    for key, name, colour in (
        ("rate_per_s", "mean", BLUE),
        ("safe_per_s", "safe by error bars", GREEN),
        ("hopeful_per_s", "hopeful by error bars", ORANGE),
        ("proved_per_s", "proved most", RED),
    ):
        if found[key]:
            figure.add_hline(y=found[key], line={"dash": "dash", "color": colour}, annotation_text=name)
    figure.update_xaxes(title="seed", type="category")
    figure.update_yaxes(title="requests/s", rangemode="tozero")
    return styled(figure, HEIGHT)


def fleet_by_hour(found: dict[str, Any], which: str) -> go.Figure:
    """Capacity that runs in each hour, by node type, with the demand as a line."""
    fleet, demand = found[which], found["demand_per_s"]
    hours = list(range(len(demand)))
    figure = go.Figure()
    for number, (name, row) in enumerate(fleet["running"].items()):
        capacity = fleet["capacity_per_s"][name]
        figure.add_bar(
            x=hours,
            y=[count * each for count, each in zip(row, capacity, strict=True)],
            name=name,
            marker={"color": POOLS[number % len(POOLS)]},
            customdata=row,
            hovertemplate="hour %{x}: %{customdata} running, %{y:.3g} requests/s<extra>" + name + "</extra>",
        )
    figure.add_scatter(x=hours, y=demand, mode="lines+markers", name="demand", line={"color": "#222", "shape": "hvh"})
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="hour")
    figure.update_yaxes(title="requests/s", rangemode="tozero")
    return styled(figure, HEIGHT)
