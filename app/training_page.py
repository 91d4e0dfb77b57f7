"""A self-contained HTML page about a training step: the answer first, then pictures, then memory in a table."""

from __future__ import annotations

from html import escape
from typing import Any

from app.console import grades_in_words
from app.html_page import notes_html, page_html, pictures_html
from app.html_report import energy_html, metric_cards
from app.offload_step import offload_html
from app.training_figures import training_figures
from app.training_report import HEADLINE, asked_lines
from sim.metrics import TRAINING_METRICS
from sim.scenario_file import scenario_toml
from sim.stored_run import StoredTraining
from sim.training.result import TrainingResult


def training_html_report(result: TrainingResult | StoredTraining) -> str:
    """The page as one string; it needs no network, and the same run gives the same page."""
    summary, scenario = result.summary, result.scenario
    body = f"""\
<p>{"; ".join(escape(line) for line in asked_lines(scenario, summary))}; the times are
<b>{escape(summary["grade"])}</b> ({escape(grades_in_words(summary))}).</p>
<p><b>{escape(summary["bottleneck"])}</b></p>
<div class="cards">{metric_cards((TRAINING_METRICS[key] for key in HEADLINE), summary)}</div>
{offload_html(summary)}
{energy_html(summary)}
{pictures_html(training_figures(result))}
<h2>{escape(memory_title(summary["memory"]))}</h2><div class="wide">{memory_table(summary["memory"])}</div>
{notes_html(summary["notes"])}
<h2>Scenario</h2><pre>{escape(scenario_toml(scenario))}</pre>"""
    return page_html(scenario.name, body)


def memory_title(memory: dict[str, Any]) -> str:
    """Whose memory the table shows, and when."""
    return f"Fullest GPU: pipeline stage {memory['stage']} after {memory['at_s']:.3g} s"


def memory_table(memory: dict[str, Any]) -> str:
    """A row an owner of the fullest GPU's memory at its peak, as HTML."""
    rows = [
        *memory["owners"].items(),
        ("all of it", memory["peak_bytes"]),
        ("tensors may take", memory["budget_bytes"]),
    ]
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{size / 1e9:,.2f}</td><td>{size / memory['budget_bytes']:.1%}</td></tr>"
        for name, size in rows
    )
    return f"<table><tr><th>owner</th><th>GB</th><th>of what tensors may take</th></tr>{body}</table>"
