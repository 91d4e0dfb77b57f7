"""Pictures of what lies below the GPU's memory: how full each tier is, how much each stream is used, and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, nothing, styled
from app.offload_step import STREAMS
from app.training_figures import owner_colours

GB = 1e9
OTHER = "other"
STEP_KINDS = {  # a task of an offloaded step -> its name and colour; the rest is `OTHER`
    "forward": ("forward", BLUE),
    "backward": ("backward", ORANGE),
    "h2d": ("copy to the GPU", GREEN),
    "d2h": ("copy to host memory", SKY),
    "ssd read": ("read", PURPLE),
    "ssd write": ("write", "#F0E442"),
    "cpu adam": ("Adam on the CPU", RED),
    "host": ("host", "#555555"),
    OTHER: (OTHER, "#999999"),
}
GREYS = ("#333333", "#777777", "#AAAAAA", "#CCCCCC")
MOST_BARS = 4000  # that a browser draws without effort
LEAST_SHARE = 0.005  # that is drawn


def tier_shares(tiers: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """A bar a tier, by its name: what it holds at its fullest moment, as shares of what it has."""
    used = {name: tier for name, tier in tiers.items() if tier["budget_bytes"] > 0}
    names = [
        f"{name}<br>{tier['peak_bytes'] / GB:,.1f} of {tier['budget_bytes'] / GB:,.0f} GB"
        for name, tier in used.items()
    ]
    owners = dict.fromkeys(owner for tier in used.values() for owner in tier["owners"])
    figure = go.Figure()
    for owner, colour in owner_colours(owners).items():
        sizes = [tier["owners"].get(owner, 0.0) for tier in used.values()]
        shares = [size / tier["budget_bytes"] for size, tier in zip(sizes, used.values(), strict=True)]
        figure.add_bar(
            x=shares, y=names, orientation="h", name=owner.replace("_", " "), marker_color=colour, showlegend=True,
            customdata=[size / GB for size in sizes],
            hovertemplate=f"{owner.replace('_', ' ')} %{{customdata:,.1f}} GB, %{{x:.1%}}<extra></extra>",
        )  # fmt: skip
    full = max((tier["peak_bytes"] / tier["budget_bytes"] for tier in used.values()), default=1.0)
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(title_text="share of the tier", tickformat=".0%", range=[0, 1.02 * max(1.0, full)])
    figure.update_yaxes(autorange="reversed")
    if full > 1.0:
        figure.add_vline(x=1.0, line={"dash": "dash", "color": "#333", "width": 1.5})
    return styled(figure, 130 + 55 * len(names))


def stream_shares(busy: Mapping[str, float]) -> go.Figure:
    """A bar a stream, by its name; the rest of its time it is idle."""
    figure = go.Figure()
    figure.add_bar(
        x=list(busy.values()), y=list(busy), orientation="h", marker_color=BLUE,
        hovertemplate="%{y} %{x:.1%}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="share of the time", tickformat=".0%", range=[0, 1.02])
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 260).update_layout(showlegend=False)


def on_streams(
    tasks: pd.DataFrame, kinds: Mapping[str, tuple[str, str]], streams: Mapping[str, str], window: tuple[float, float]
) -> tuple[go.Figure, int]:
    """Tasks of a window, s, a row a stream, one trace a kind; and how many tasks it has too many to draw.

    kinds: name and colour of each kind, with one for `OTHER` where others may come. streams: their names, in order.
    """
    figure = go.Figure()
    shown = tasks[(tasks["device"] >= 0) & (tasks["end_s"] > tasks["start_s"])]
    shown = shown[(shown["start_s"] < window[1]) & (shown["end_s"] > window[0])].sort_values("start_s", kind="stable")
    if not len(shown):
        return nothing(figure, "nothing ran"), 0
    left_out = max(0, len(shown) - MOST_BARS)
    shown = shown.head(MOST_BARS)
    known = shown["kind"].where(shown["kind"].isin(list(kinds)), OTHER)
    for kind, (name, colour) in kinds.items():
        some = shown[known == kind]
        if len(some):
            figure.add_bar(
                base=some["start_s"], x=some["end_s"] - some["start_s"], y=some["stream"].map(streams),
                orientation="h", name=name, showlegend=True, customdata=some["name"],
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="%{customdata}<br>at %{base:.4f} s, %{x:.4f} s<extra></extra>",
            )  # fmt: skip
    order = [name for key, name in streams.items() if key in set(shown["stream"])]
    end_s = min(window[1], float(shown["end_s"].max())) if left_out else window[1]
    figure.update_layout(barmode="overlay", bargap=0.15)
    figure.update_xaxes(title_text="time, s", range=[window[0], end_s])
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1])
    return styled(figure, 330), left_out


def shares_bar(shares: Iterable[tuple[str, float, str]]) -> go.Figure:
    """One bar of shares of the time, each with its name and colour; those too small to be seen are left out."""
    figure = go.Figure()
    for name, share, colour in shares:
        if share >= LEAST_SHARE:
            figure.add_bar(
                x=[share], y=[""], orientation="h", name=f"{name} {share:.0%}", marker_color=colour, showlegend=True,
                hovertemplate=f"{name} %{{x:.1%}}<extra></extra>",
            )  # fmt: skip
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(visible=False, range=[0, 1])
    figure.update_yaxes(visible=False)
    return styled(figure, 150)


def critical_shares(critical_s: Mapping[str, float], step_s: float) -> go.Figure:
    """What an offloaded step waits for, along the chain of tasks none of which could end later; the longest first."""
    longest = sorted(critical_s.items(), key=lambda item: -item[1])
    greys = dict(zip((kind for kind, _ in longest if kind not in STEP_KINDS), cycle(GREYS), strict=False))
    named = [(*STEP_KINDS.get(kind, (kind, greys.get(kind, ""))), seconds) for kind, seconds in longest]
    return shares_bar((name, seconds / step_s, colour) for name, colour, seconds in named)


def step_pictures(summary: Mapping[str, Any], tasks: pd.DataFrame) -> dict[str, go.Figure]:
    """Title to figure of an offloaded step, in the order of reading."""
    use, step_s = summary["offload"], summary["step_s"]
    busy = {STREAMS[key]: share for key, share in use["busy_fraction"].items() if share > 0.0}
    picture, left_out = on_streams(tasks, STEP_KINDS, STREAMS, (0.0, step_s))
    return {
        "What the step waits for": critical_shares(use["critical_s"], step_s),
        "How full each tier is at its peak, a rank": tier_shares({one["name"]: one for one in use["tiers"].values()}),
        f"Streams of a rank{', its beginning' if left_out else ''}": picture,
        "How much of the time each stream is in use": stream_shares(busy),
    }
