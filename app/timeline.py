"""A run's steps on a time axis, a row a replica and lane: what each step of a window did, and what bounded it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, nothing, styled
from sim.serving.results import expand_steps

MAX_BARS = 3000  # that a browser draws without effort
FIRST_STEPS = 150
OUTLINED = 400  # bars that are still wide enough for an outline
LANES = 24  # rows that can be told apart
KINDS = {"prefill": ORANGE, "decode": BLUE, "mixed": GREEN}


def steps_between(steps: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    """The rows that overlap a window of time, steps one by one where there are few enough."""
    inside = steps[(steps["start_s"] < end_s) & (steps["start_s"] + steps["duration_s"] > start_s)]
    if int(inside["iterations"].sum()) <= MAX_BARS:
        inside = expand_steps(inside.reset_index(drop=True))
        inside = inside[(inside["start_s"] < end_s) & (inside["start_s"] + inside["duration_s"] > start_s)]
    return inside.sort_values(["start_s", "replica", "lane"], kind="stable")


def first_window(steps: pd.DataFrame) -> tuple[float, float]:
    """Where a look at a run begins: from its start, and so long that some hundred steps lie in it (s)."""
    if not len(steps):
        return 0.0, 1.0
    in_order = steps.sort_values("start_s")
    first = float(in_order["start_s"].iloc[0])
    enough = int(np.searchsorted(in_order["iterations"].cumsum(), FIRST_STEPS))
    last = in_order.iloc[: enough + 1]
    span = float((last["start_s"] + last["duration_s"]).max()) - first
    scale = 10.0 ** np.floor(np.log10(max(span, 1e-6)))
    return float(np.floor(first / scale) * scale), float(np.ceil(span / scale) * scale)


def timeline(steps: pd.DataFrame, start_s: float, end_s: float) -> tuple[go.Figure, str]:
    """The picture of a window, and a word on what is left out of it."""
    inside = steps_between(steps, start_s, end_s)
    if not len(inside):
        return nothing(go.Figure(), "no step in this window"), ""
    said = []
    lanes = sorted(set(zip(inside["replica"].tolist(), inside["lane"].tolist(), strict=True)))
    if len(lanes) > LANES:
        said.append(f"the first {LANES} of {len(lanes)} rows")
        last = lanes[LANES - 1]
        inside = inside[(inside["replica"] < last[0]) | ((inside["replica"] == last[0]) & (inside["lane"] <= last[1]))]
    if len(inside) > MAX_BARS:
        said.append(f"the first {MAX_BARS:,} of {len(inside):,} runs of steps: choose a shorter window for all")
        inside = inside.head(MAX_BARS)
    return _bars(inside, start_s, end_s), f"Drawn: {'; '.join(said)}." if said else ""


def _bars(steps: pd.DataFrame, start_s: float, end_s: float) -> go.Figure:
    row = "replica " + steps["replica"].astype(str)
    if steps["lane"].max() > 0:
        row = row + ", micro-batch " + steps["lane"].astype(str)
    kind = np.where(
        (steps["prefill_tokens"] > 0) & (steps["decode_seqs"] > 0),
        "mixed",
        np.where(steps["prefill_tokens"] > 0, "prefill", "decode"),
    )
    figure = go.Figure()
    for name, colour in KINDS.items():
        at = kind == name
        some = steps[at]
        if not len(some):
            continue
        details = np.column_stack(
            [some["prefill_tokens"], some["decode_seqs"], some["context_tokens"], some["iterations"],
             some["bound_by"].astype(str), 1e3 * some["duration_s"], some["waiting"]]
        )  # fmt: skip
        figure.add_bar(
            base=some["start_s"], x=some["duration_s"], y=row[at], orientation="h", name=name, showlegend=True,
            marker={"color": colour, "line": {"width": 0.5 if len(steps) <= OUTLINED else 0, "color": "white"}},
            customdata=details,
            hovertemplate=(
                "%{y}, at %{base:.4f} s, %{customdata[5]:.3f} ms<br>%{customdata[0]} prompt tokens,"
                " %{customdata[1]} decoding sequences, %{customdata[2]} KV tokens read<br>"
                "%{customdata[3]} steps alike, %{customdata[6]} requests waiting, bound by %{customdata[4]}"
                f"<extra>{name}</extra>"
            ),
        )  # fmt: skip
    rows = row.nunique()
    styled(figure, 160 + 40 * rows)
    figure.update_layout(barmode="overlay", bargap=0.25)
    figure.update_xaxes(title_text="time, s", range=[start_s, end_s])
    return figure.update_yaxes(autorange="reversed", title_text="")
