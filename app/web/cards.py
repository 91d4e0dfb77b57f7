"""Headline figures as small cards: name, figure and unit, error bar, and the change against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from app.compare import beyond_error_bars, change_text
from app.console import HEADLINE, interval_of
from sim.metrics import SUMMARY_METRICS, Metric, plain

Verdict = Literal["better", "worse", "same", ""]
ALIKE = 5e-4  # a change that one decimal of a percent does not show
NO_CHANGE: tuple[str, Verdict] = ("", "")
SHOWN = ("ttft_s.p99", "max_tbt_s.p99", *HEADLINE)
POWER_SHOWN = (
    "power.row_peak_fraction",
    "power.row_w.mean",
    "power.brakes",
    "power.low_priority_locked_s",
    "power.high_priority_locked_s",
    "power.by_priority.high.e2e_p99_s",
    "power.by_priority.low.e2e_p99_s",
    "power.training.tokens_per_s",
    "power.training.lost_fraction",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One figure."""

    label: str
    value: str
    unit: str = ""
    note: str = ""  # the error bar, most often
    delta: str = ""  # the change against a baseline
    verdict: Verdict = ""  # what that change is
    title: str = ""  # shown while the mouse rests

    def html(self) -> str:
        """The card, escaped."""
        unit = f' <span class="fc-unit">{escape(self.unit)}</span>' if self.unit else ""
        note = f'<span class="fc-note">{escape(self.note)}</span>' if self.note else ""
        delta = ""
        if self.delta:
            delta = f'<span class="fc-note fc-{self.verdict or "same"}">{escape(self.delta)}</span>'
        return (
            f'<div class="fc-card" title="{escape(self.title)}"><span class="fc-label">{escape(self.label)}</span>'
            f'<span class="fc-value">{escape(self.value)}</span>{unit}{delta}{note}</div>'
        )


def summary_cards(
    summary: dict[str, Any], baseline: dict[str, Any] | None = None, shown: Sequence[str] = SHOWN
) -> list[Card]:
    """The headline of a run, with its change against a baseline where one is given; shown: keys of metrics."""
    metrics = [SUMMARY_METRICS[key] for key in shown]
    return [_card(metric, summary, baseline) for metric in metrics if metric.value(summary) == metric.value(summary)]


def _card(metric: Metric, summary: dict[str, Any], baseline: dict[str, Any] | None) -> Card:
    number, _, unit = metric.text(metric.value(summary)).partition(" ")
    bars = interval_of(summary, metric.key)
    note = ""
    if bars is not None:
        note = "90 %: " + " to ".join(plain(bar * metric.shown_factor) for bar in bars)
    change, verdict = NO_CHANGE if baseline is None else delta(metric, baseline, summary)
    return Card(label=metric.name, value=number, unit=unit, note=note, delta=change, verdict=verdict, title=metric.key)


def delta(metric: Metric, baseline: dict[str, Any], summary: dict[str, Any]) -> tuple[str, Verdict]:
    """The change in words, and whether it is for the better; neither, within the error bars."""
    before, after = metric.value(baseline), metric.value(summary)
    if before == after or abs(after - before) < ALIKE * abs(before):
        return "as baseline", "same"
    text = change_text(before, after)
    if not text:
        return NO_CHANGE
    if beyond_error_bars(baseline, summary, metric.key) is False:
        return f"{text}, within error bars", "same"
    if metric.larger_is_better is None:
        return text, "same"
    better = (after > before) == metric.larger_is_better
    return f"{text}, {'better' if better else 'worse'}", "better" if better else "worse"
