"""The pictures of a training step, as plain functions from frames to figures; colours are safe for the colour-blind."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from app.clock_figures import clock_pictures
from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, nothing, sample, styled
from app.training_power_figures import power_over_time, power_title
from app.training_timeline import KINDS, kind_of, pipeline_ends
from sim.stored_run import StoredTraining
from sim.training.result import TrainingResult

GREY, YELLOW, LILAC = "#999999", "#F0E442", "#B8A1D9"
SHARES = {  # key of a summary's `bound_by` -> its name and colour
    "compute_fraction": ("arithmetic", BLUE),
    "memory_fraction": ("memory", ORANGE),
    "network_fraction": ("exchanges", GREEN),
    "launch_fraction": ("launches", PURPLE),
    "host_fraction": ("host", RED),
    "idle_fraction": ("waiting", "#DDDDDD"),
}
OWNERS = {"weights": BLUE, "gradients": SKY, "optimizer": GREEN, "activations": ORANGE, "working": RED,
          "workspace": GREY, "gathered weights": PURPLE}  # fmt: skip
OTHERS = (YELLOW, LILAC, "#8C564B", "#555555")  # of owners without a colour of their own
WAITING = "waiting"
LEAST_SHARE = 0.005  # that is drawn
GB = 1e9
MOST_STAGES = 24  # of which the report's pictures show each


def training_figures(run: TrainingResult | StoredTraining) -> dict[str, go.Figure]:
    """Title to figure, in the order of reading."""
    summary = run.summary
    use, memory = summary["memory"], run.memory
    if (offload := summary.get("offload")) is not None:
        memory = tier_memory(memory, offload["tiers"]["gpu"]["name"])
    pipeline, title = pipeline_ends(run.tasks, summary["step_s"])
    return {
        "Where the step goes": step_shares({"": summary}),
        "What each stage's GPUs do": stage_time(run.tasks, summary["step_s"]),
        title: pipeline,
        "Memory of a GPU of each stage at its peak": peak_by_stage(memory, use["budget_bytes"]),
        f"Memory over time, pipeline stage {use['stage']}": memory_over_time(
            memory, int(use["stage"]), use["budget_bytes"], summary["step_s"]
        ),
        **_power(run),
    }


def _power(run: TrainingResult | StoredTraining) -> dict[str, go.Figure]:
    """Nothing of a run of a version that kept no power."""
    if run.summary.get("power") is None:
        return {}
    over_time = {power_title(run.power, run.summary["step_s"]): power_over_time(run.power)}
    return over_time | clock_pictures(run.summary["power"])


def step_shares(summaries: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """A bar a run: shares of its step by what compute streams did, waiting included; they sum to all of it."""
    figure = go.Figure()
    names = list(summaries)
    for key, (name, colour) in SHARES.items():
        shares = [summaries[run]["bound_by"][key] for run in names]
        if max(shares) < LEAST_SHARE:
            continue
        label = f"{name} {shares[0]:.0%}" if len(names) == 1 else name
        figure.add_bar(
            x=shares, y=names, orientation="h", name=label, marker_color=colour, showlegend=True,
            text=[f"{share:.0%}" if share >= 0.04 else "" for share in shares], textposition="inside",
            insidetextanchor="middle", textangle=0, hovertemplate=f"{name} %{{x:.1%}}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(visible=False, range=[0, 1])
    figure.update_yaxes(visible=len(names) > 1, autorange="reversed")
    return styled(figure, 120 + 40 * len(names))


def step_times(summaries: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Seconds of a step of each run, with its 90 % interval."""
    names = list(summaries)
    steps = np.array([summaries[run]["step_s"] for run in names])
    ends = np.array([summaries[run]["interval_90"]["step_s"] for run in names]).reshape(-1, 2)
    bars = {"type": "data", "symmetric": False, "array": ends[:, 1] - steps, "arrayminus": steps - ends[:, 0],
            "color": "#333", "thickness": 1.5, "width": 5}  # fmt: skip
    figure = go.Figure()
    figure.add_bar(
        x=steps, y=names, orientation="h", marker_color=BLUE, width=0.5, error_x=bars, customdata=ends,
        hovertemplate="%{y}<br>%{x:.4g} s, 90 % interval %{customdata[0]:.4g} to %{customdata[1]:.4g} s<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="step, s", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 100 + 45 * len(names)).update_layout(showlegend=False)


def stage_time(tasks: pd.DataFrame, step_s: float) -> go.Figure:
    """A bar a pipeline stage: shares of the step that its compute stream spends on kinds of tasks, and waits."""
    own = tasks[tasks["stream"] == "compute"]
    lasting = own.assign(lasted_s=own["end_s"] - own["start_s"], what=kind_of(own))
    spent = lasting.pivot_table(index="device", columns="what", values="lasted_s", aggfunc="sum").fillna(0.0)
    figure = go.Figure()
    if not len(spent) or step_s <= 0:
        return nothing(figure, "nothing ran")
    spent = spent / step_s
    spent[WAITING] = (1.0 - spent.sum(axis=1)).clip(lower=0.0)
    stages = [f"stage {stage}" for stage in spent.index]
    for name, colour in {**KINDS, WAITING: "#DDDDDD"}.items():
        if name in spent and spent[name].max() > 0.0005:
            figure.add_bar(
                x=spent[name], y=stages, orientation="h", name=name, marker_color=colour, showlegend=True,
                hovertemplate=f"%{{y}}: {name} %{{x:.1%}}<extra></extra>",
            )  # fmt: skip
    figure.update_layout(barmode="stack", legend_traceorder="normal", bargap=0.15)
    figure.update_xaxes(title_text="share of the step", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(autorange="reversed", dtick=max(1, len(stages) // MOST_STAGES))
    return styled(figure, 130 + 22 * min(len(stages), MOST_STAGES))


def memory_over_time(memory: pd.DataFrame, stage: int, budget_bytes: float, step_s: float) -> go.Figure:
    """What a GPU of a stage holds, by owner, with what tensors may take as a dashed line."""
    held = held_over_time(memory, stage)
    figure = go.Figure()
    if not len(held):
        return nothing(figure, "no memory is tracked")
    at = _thinned(held)
    t_s = np.append(held.index.to_numpy()[at], step_s)
    for owner, colour in owner_colours(held.columns).items():
        used = held[owner].to_numpy()[at] / GB
        figure.add_scatter(
            x=t_s, y=np.append(used, used[-1]), mode="lines", stackgroup="held", name=owner, showlegend=True,
            line={"shape": "hv", "width": 0.5, "color": colour}, fillcolor=colour,
            hovertemplate=f"{owner} %{{y:.2f}} GB<extra></extra>",
        )  # fmt: skip
    _add_budget(figure, budget_bytes)
    top = max(float(held.sum(axis=1).max()), budget_bytes) / GB
    figure.update_xaxes(title_text="time, s", range=[0, step_s])
    figure.update_yaxes(title_text="memory, GB", range=[0, 1.08 * top])
    return styled(figure, 380).update_layout(hovermode="x unified", legend_traceorder="normal")


def peak_by_stage(memory: pd.DataFrame, budget_bytes: float) -> go.Figure:
    """A bar a pipeline stage: what one of its GPUs holds by owner at the moment at which it holds the most."""
    peaks = stage_peaks(memory)
    figure = go.Figure()
    if not len(peaks):
        return nothing(figure, "no memory is tracked")
    stages = [f"stage {stage}" for stage in peaks.index]
    for owner, colour in owner_colours(peaks.columns).items():
        figure.add_bar(
            x=stages, y=peaks[owner] / GB, name=owner, marker_color=colour, showlegend=True,
            hovertemplate=f"%{{x}}: {owner} %{{y:.2f}} GB<extra></extra>",
        )  # fmt: skip
    _add_budget(figure, budget_bytes)
    top = max(float(peaks.sum(axis=1).max()), budget_bytes) / GB
    figure.update_layout(barmode="stack", legend_traceorder="normal", bargap=0.25)
    figure.update_yaxes(title_text="memory, GB", range=[0, 1.08 * top])
    return styled(figure, 380)


def tier_memory(memory: pd.DataFrame, tier: str) -> pd.DataFrame:
    """What one tier holds, by owner, of an offloaded run, where owners may hold of it in pools of their own too."""
    own = memory[(memory["pool"] == tier) | memory["pool"].str.startswith(f"{tier}:")]
    change = own.groupby(["pool", "owner"])["used_bytes"].diff().fillna(own["used_bytes"])
    held = own.assign(change_bytes=change).groupby(["owner", "t_s"], as_index=False)["change_bytes"].sum()
    held["used_bytes"] = held.groupby("owner")["change_bytes"].cumsum().clip(lower=0.0)
    shown: pd.DataFrame = held.drop(columns="change_bytes").assign(device=0, pool=tier)
    return shown


def held_over_time(memory: pd.DataFrame, stage: int) -> pd.DataFrame:
    """Bytes by owner (columns) from each instant on (index, s), of one stage; owners without any left out."""
    mine = memory[memory["device"] == stage]
    held = mine.pivot_table(index="t_s", columns="owner", values="used_bytes", aggfunc="last").ffill().fillna(0.0)
    kept: pd.DataFrame = held.loc[:, held.max() > 0.0] if len(held) else held
    return kept


def stage_peaks(memory: pd.DataFrame) -> pd.DataFrame:
    """Bytes by owner (columns) at each stage's (index) first fullest moment."""
    rows = {}
    for stage in sorted(memory["device"].unique().tolist()):
        held = held_over_time(memory, stage)
        if len(held):
            rows[stage] = held.iloc[int(held.sum(axis=1).to_numpy().argmax())]
    return pd.DataFrame(rows).T.fillna(0.0)


def owner_colours(owners: Any) -> dict[str, str]:
    """A colour an owner: known ones first, from what is held all along to what comes and goes."""
    known = [owner for owner in OWNERS if owner in owners]
    others = sorted(set(owners) - set(OWNERS))
    return {owner: OWNERS[owner] for owner in known} | {
        owner: OTHERS[number % len(OTHERS)] for number, owner in enumerate(others)
    }


def _thinned(held: pd.DataFrame) -> NDArray[np.int64]:
    """Instants to draw: a sample, and the fullest of each stretch between, so that no peak is lost."""
    at = sample(len(held))
    if len(at) == len(held):
        return at
    total = held.sum(axis=1).to_numpy()
    fullest = [int(low + total[low:high].argmax()) for low, high in pairwise(at)]
    return np.unique(np.concatenate([at, np.array(fullest, dtype=np.int64)]))


def _add_budget(figure: go.Figure, budget_bytes: float) -> None:
    figure.add_hline(y=budget_bytes / GB, line={"dash": "dash", "color": "#333", "width": 1.5})
    figure.add_annotation(
        x=1.0, xref="paper", xanchor="right", y=budget_bytes / GB, yanchor="bottom", showarrow=False,
        text=f"tensors may take {budget_bytes / GB:.1f} GB", font={"color": "#333", "size": 12},
    )  # fmt: skip
