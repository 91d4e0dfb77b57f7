"""A self-contained HTML page about offloaded inference: the answer first, then pictures, then memory in a table."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

from app.console import grades_in_words
from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, nothing, styled
from app.html_page import notes_html, page_html, pictures_html
from app.html_report import metric_cards
from app.offload_figures import on_streams, shares_bar, stream_shares, tier_shares
from app.offload_report import HEADLINE, STREAMS, TIERS, asked_lines, blocks_text, moved_text
from sim.metrics import OFFLOAD_METRICS
from sim.offload.inference_result import OffloadedInferenceResult
from sim.scenario_file import scenario_toml
from sim.stored_run import StoredOffloadedInference

BOUNDS = {  # key of `bound_by` -> its name and colour
    "compute_fraction": ("GPU computes", BLUE),
    "host_fraction": ("waits for the CPU", RED),
    "storage_fraction": ("waits for drives", PURPLE),
    "copies_fraction": ("waits for copies", ORANGE),
    "idle_fraction": ("nothing runs", "#DDDDDD"),
}
COLOURS = {"compute": BLUE, "load_weight": ORANGE, "load_cache": PURPLE, "load_activation": GREEN, "store_cache": RED,
           "store_activation": SKY}  # fmt: skip
KINDS = {kind: (kind.replace("_", " "), colour) for kind, colour in COLOURS.items()}
SHOWN_TASKS = 400  # of the timeline's beginning, and as many of the last decoding step


def offload_html_report(result: OffloadedInferenceResult | StoredOffloadedInference) -> str:
    """The page as one string; it needs no network, and the same run gives the same page."""
    summary, scenario = result.summary, result.scenario
    body = f"""\
<p>{"; ".join(escape(line) for line in asked_lines(scenario, summary))}; {blocks_text(summary)}; the times are
<b>{escape(summary["grade"])}</b> ({escape(grades_in_words(summary))}).</p>
<p><b>{escape(summary["bottleneck"])}</b> {escape(moved_text(summary).replace("a block", "A block", 1))}.</p>
<div class="cards">{metric_cards((OFFLOAD_METRICS[key] for key in HEADLINE), summary)}</div>
{pictures_html(offload_figures(result))}
<h2>Memory at its peak</h2><div class="wide">{memory_table(summary["memory"])}</div>
{notes_html(summary["notes"])}
<h2>Scenario</h2><pre>{escape(scenario_toml(scenario))}</pre>"""
    return page_html(scenario.name, body)


def offload_figures(run: OffloadedInferenceResult | StoredOffloadedInference) -> dict[str, go.Figure]:
    """Title to figure, in the order of reading."""
    summary = run.summary
    return {
        "Where the time goes": time_shares(summary),
        "Seconds of each kind of task, prompts and decoding of a block": kind_seconds(summary),
        "How full each tier is at its peak": tier_shares({TIERS[key]: one for key, one in summary["memory"].items()}),
        "How much of the time each stream is in use": stream_shares(
            {name: summary["busy"][f"{key}_fraction"] for key, name in STREAMS.items()}
        ),
        "Timeline: the first tasks of the last decoding step that was run": timeline(run),
    }


def time_shares(summary: dict[str, Any]) -> go.Figure:
    """One bar: shares of the time by what the GPU waits for."""
    return shares_bar((name, summary["bound_by"][key], colour) for key, (name, colour) in BOUNDS.items())


def kind_seconds(summary: dict[str, Any]) -> go.Figure:
    """Bars of the six kinds in both phases; they overlap in time, so that they sum to more than the block takes."""
    figure = go.Figure()
    for phase, colour in (("prefill", SKY), ("decode", BLUE)):
        seconds = [summary["phases"][phase].get(f"{kind}_s", 0.0) for kind in KINDS]
        names = [name for name, _ in KINDS.values()]
        figure.add_bar(
            x=names, y=seconds, name=phase, marker_color=colour, hovertemplate="%{x} %{y:.4g} s<extra></extra>"
        )
    figure.update_layout(barmode="group")
    figure.update_yaxes(title_text="s, a block")
    return styled(figure, 320)


def timeline(run: OffloadedInferenceResult | StoredOffloadedInference) -> go.Figure:
    """Tasks on their streams, one trace a kind; full timelines are written by --trace-out."""
    tasks = run.tasks
    lasting = tasks[(tasks["device"] >= 0) & (tasks["end_s"] > tasks["start_s"])]
    if not len(lasting):
        return nothing(go.Figure(), "nothing ran")
    computed = lasting[lasting["kind"] == "compute"]["name"]
    last = computed.str.extract(r" step (\d+) ")[0].astype(int).max()
    begins = lasting[lasting["name"].str.contains(f" step {last} ") & (lasting["kind"] == "compute")]["start_s"].min()
    shown = lasting[lasting["end_s"] > begins].sort_values("start_s", kind="stable").head(SHOWN_TASKS)
    return on_streams(shown, KINDS, STREAMS, (float(begins), float(shown["end_s"].max())))[0]


def memory_table(memory: dict[str, Any]) -> str:
    """A row an owner of each tier at its peak, as HTML."""
    rows = []
    for tier, name in TIERS.items():
        one = memory[tier]
        owners = [*one["owners"].items(), ("all of it", one["peak_bytes"]), ("capacity", one["budget_bytes"])]
        rows += [
            f"<tr><td>{name}</td><td>{escape(owner.replace('_', ' '))}</td><td>{size / 1e9:,.2f}</td></tr>"
            for owner, size in owners
        ]
    return f"<table><tr><th>tier</th><th>owner</th><th>GB</th></tr>{''.join(rows)}</table>"
