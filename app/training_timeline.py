"""A training step on a time axis: a row a stage and stream, what each task of a window was, one trace a kind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, nothing, styled
from policies.parallelism.schedules import schedule
from sim.training import step_kinds

MAX_BARS = 4000  # that a browser draws without effort
LEGIBLE = 150  # of one row that can be told apart
OUTLINED = 600  # bars that are still wide enough for an outline
MOST_ROWS = 64  # that can be told apart
OTHER = "other"
KINDS = {  # a task's kind as the picture names it -> colour; the rest is `OTHER`
    "forward": BLUE,
    "backward": ORANGE,
    "backward of inputs": ORANGE,
    "backward of weights": "#F0E442",
    "send": GREEN,
    "exchange between copies": PURPLE,
    "optimizer": RED,
    "host": SKY,
    OTHER: "#999999",
}
WORDS = {  # a task's kind -> as the picture names it
    schedule.FORWARD: "forward",
    schedule.BACKWARD: "backward",
    schedule.BACKWARD_INPUT: "backward of inputs",
    schedule.BACKWARD_WEIGHT: "backward of weights",
    step_kinds.SEND_FORWARD: "send",
    step_kinds.SEND_BACKWARD: "send",
    step_kinds.GATHER: "exchange between copies",
    step_kinds.REDUCE: "exchange between copies",
    step_kinds.TIED: "exchange between copies",
    step_kinds.OPTIMIZER: "optimizer",
    step_kinds.HOST: "host",
}


def kind_of(tasks: pd.DataFrame) -> pd.Series:
    """What the picture calls each task."""
    return tasks["kind"].map(WORDS).fillna(OTHER)


def drawable(tasks: pd.DataFrame, *, compute_only: bool = False) -> pd.DataFrame:
    """Tasks that take time on a stream, in order of start."""
    lasting = tasks[(tasks["device"] >= 0) & (tasks["end_s"] > tasks["start_s"])]
    if compute_only:
        lasting = lasting[lasting["stream"] == "compute"]
    return lasting.sort_values(["start_s", "device"], kind="stable")


def first_window(tasks: pd.DataFrame, *, compute_only: bool = False) -> float:
    """Seconds from the start of a step within which each task is seen: all of a short step, else about as many as
    LEGIBLE on the busiest row.
    """
    shown = drawable(tasks, compute_only=compute_only)
    if not len(shown):
        return 1.0
    end_s, busiest = float(tasks["end_s"].max()), _busiest(shown)
    if len(busiest) <= LEGIBLE and len(shown) <= MAX_BARS:
        return end_s
    enough = [float(busiest["start_s"].iloc[LEGIBLE])] if len(busiest) > LEGIBLE else []
    enough += [float(shown["start_s"].iloc[MAX_BARS])] if len(shown) > MAX_BARS else []
    return float(f"{min(enough):.2g}")


def _busiest(tasks: pd.DataFrame) -> pd.DataFrame:
    """Those of the row that has the most."""
    rows: list[pd.DataFrame] = [row for _, row in tasks.groupby(["device", "stream"])]
    return max(rows, key=len)


def pipeline_ends(tasks: pd.DataFrame, step_s: float) -> tuple[go.Figure, str]:
    """Compute tasks of a whole step, or, where those would be thinner than a line, of its beginning and its end; and
    its title, which says so.
    """
    shown = drawable(tasks, compute_only=True)
    title = "Pipeline"
    if not len(shown):
        return nothing(go.Figure(), "nothing ran"), title
    rows = _rows(shown)
    if len(rows) > MOST_ROWS:
        rows, title = rows[:MOST_ROWS], f"{title}, the first {MOST_ROWS} of {len(rows):,} stages"
        shown = shown[shown["device"] <= rows[-1][0]]
    busiest = _busiest(shown)
    if len(busiest) <= LEGIBLE:
        return _panels(shown, rows, [(0.0, step_s)]), title
    half = min(float(busiest["start_s"].iloc[LEGIBLE // 2]), step_s / 2)
    return _panels(shown, rows, [(0.0, half), (step_s - half, step_s)]), f"{title}, beginning and end of the step"


def pipeline_timeline(
    tasks: pd.DataFrame, start_s: float, end_s: float, *, compute_only: bool = True
) -> tuple[go.Figure, str]:
    """The picture of a window, and a word on what is left out of it."""
    shown = drawable(tasks, compute_only=compute_only)
    inside = shown[(shown["start_s"] < end_s) & (shown["end_s"] > start_s)]
    if not len(inside):
        return nothing(go.Figure(), "no task in this window"), ""
    said = []
    rows = _rows(inside)
    if len(rows) > MOST_ROWS:
        said.append(f"the first {MOST_ROWS} of {len(rows):,} rows")
        rows = rows[:MOST_ROWS]
        places = pd.MultiIndex.from_frame(inside[["device", "stream"]])
        inside = inside[places.isin(rows)]
    if len(inside) > MAX_BARS:
        said.append(f"the first {MAX_BARS:,} of {len(inside):,} tasks")
        inside = inside.head(MAX_BARS)
        end_s = min(end_s, float(inside["end_s"].max()))
    return _panels(inside, rows, [(start_s, end_s)]), ", ".join(said)


def _rows(tasks: pd.DataFrame) -> list[tuple[int, str]]:
    """Stage and stream, stage by stage, each's compute first."""
    places = set(zip(tasks["device"].tolist(), tasks["stream"].tolist(), strict=True))
    return sorted(places, key=lambda place: (place[0], place[1] != "compute", place[1]))


def _panels(tasks: pd.DataFrame, rows: list[tuple[int, str]], windows: list[tuple[float, float]]) -> go.Figure:
    """Windows of time beside each other, on the same rows."""
    figure = make_subplots(rows=1, cols=len(windows), shared_yaxes=True, horizontal_spacing=0.06)
    alone = all(stream == "compute" for _, stream in rows)
    names = {place: f"stage {place[0]}" if alone else f"stage {place[0]} {place[1]}" for place in rows}
    explained: set[str] = set()
    for number, (start_s, end_s) in enumerate(windows, start=1):
        inside = tasks[(tasks["start_s"] < end_s) & (tasks["end_s"] > start_s)]
        for bar in _bars(inside, names, explained):
            figure.add_trace(bar, row=1, col=number)
        figure.update_xaxes(title_text="time, s", range=[start_s, end_s], row=1, col=number)
    styled(figure, 130 + (26 if alone else 20) * len(rows))
    figure.update_layout(barmode="overlay", bargap=0.15)
    order = [names[place] for place in reversed(rows)]
    return figure.update_yaxes(title_text="", categoryorder="array", categoryarray=order)


def _bars(tasks: pd.DataFrame, names: dict[tuple[int, str], str], explained: set[str]) -> Iterator[go.Bar]:
    """One a kind; explained: kinds that the legend has already."""
    row = np.array([names[place] for place in zip(tasks["device"].tolist(), tasks["stream"].tolist(), strict=True)])
    kinds = kind_of(tasks).to_numpy()
    outline = {"width": 0.5 if len(tasks) <= OUTLINED else 0, "color": "white"}
    for kind, colour in KINDS.items():
        some = tasks[kinds == kind]
        if not len(some):
            continue
        lasted = some["end_s"] - some["start_s"]
        yield go.Bar(
            base=some["start_s"], x=lasted, y=row[kinds == kind], orientation="h", name=kind, legendgroup=kind,
            showlegend=kind not in explained, marker={"color": colour, "line": outline},
            customdata=np.column_stack([some["name"].astype(str), 1e3 * lasted]),
            hovertemplate=(
                f"%{{y}}: {kind} %{{customdata[0]}}<br>at %{{base:.4f}} s, %{{customdata[1]:.3f}} ms<extra></extra>"
            ),
        )  # fmt: skip
        explained.add(kind)
