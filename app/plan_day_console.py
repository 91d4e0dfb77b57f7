"""A day's fleet on a terminal: the cost, what runs when, and what it was compared with."""

from __future__ import annotations

import math

import click

from app.plan_console import slo_words
from sim.metrics import plain
from sim.plan.day import DayPlan
from sim.plan.fleet import Fleet
from sim.plan.words import verdict_words

WHY = 150  # characters of a reason


def day_lines(plan: DayPlan) -> list[str]:
    """The report, line by line."""
    rates = plan.demand.rates_per_s
    mean = sum(rates) / len(rates)
    lines = [
        "",
        click.style(f"{plan.scenario.name}: cheapest fleet by the hour", bold=True),
        f"  {plan.scenario.model.config} ({plan.scenario.model.weight_dtype}), {len(rates)} hours, mean {plain(mean)},"
        f" peak {plain(plan.demand.peak_per_s)} requests/s: {plan.demand.source}",
        f"  asked: {slo_words(plan.scenario.slo)}, in every hour and pool",
        "",
        *_answer(plan),
        "",
        *_types(plan),
        "",
    ]
    lines += [
        f"  rated down: {one.node} from {plain(one.before_per_s)} to {plain(one.after_per_s)} requests/s"
        f" in {one.hours} hour{'s' if one.hours > 1 else ''}; {one.why}"
        for one in plan.derated
    ]
    lines += [f"  note: {note}" for note in (*_notes(plan), *plan.notes, *plan.prices.sources())]
    return [*lines, ""]


def _answer(plan: DayPlan) -> list[str]:
    fleet = plan.fleet
    if fleet is None:
        return [f"  {click.style('no answer', fg='red')}: {plan.notes[-1] if plan.notes else 'nothing can serve'}"]
    missed = [hour for hour in plan.hours if not hour.met]
    if missed:
        worst = max(missed, key=lambda hour: hour.verdict.worst if hour.verdict is not None else 0.0)
        words = verdict_words(worst.verdict, plan.scenario.slo.percentile) if worst.verdict is not None else ""
        return [f"  {click.style('no answer', fg='red')}: {worst.node} in hour {worst.hours[0]} {words}"]
    lines = [
        f"  {click.style('answer', fg='green')}: {fleet.usd:,.2f} USD over"
        f" {len(plan.demand.rates_per_s)} hours, {fleet.starts} starts"
    ]
    lines.append("  hour  " + "".join(f"{hour:>4}" for hour in range(len(plan.demand.rates_per_s))))
    lines.append("  req/s " + "".join(f"{rate:>4.0f}" for rate in plan.demand.rates_per_s))
    for kind, row, held in zip(fleet.types, fleet.running, fleet.reserved, strict=True):
        if any(row):
            reserved = f", {held} of them reserved" if held else ""
            lines.append("        " + "".join(f"{count or '-':>4}" for count in row) + f"  {kind.name}{reserved}")
    lines += _compared("best single type, scaled by the hour", plan.single, fleet)
    lines += _compared("best fleet that runs all hours", plan.static, fleet)
    if plan.energy_kwh is not None:
        usd = plan.energy_kwh * plan.prices.usd_per_kwh
        lines.append(f"  GPUs draw {plan.energy_kwh:,.0f} kWh over the hours: {usd:,.2f} USD of electricity")
    return lines


def _compared(what: str, other: Fleet | None, fleet: Fleet) -> list[str]:
    if other is None:
        return [f"  {what}: none"]
    used = " + ".join(kind.name for kind, row in zip(other.types, other.running, strict=True) if any(row))
    return [
        f"  {what}: {other.usd:,.2f} USD ({round(other.usd / fleet.usd - 1.0, 4) + 0.0:+.1%}), {used}; not simulated"
    ]


def _types(plan: DayPlan) -> list[str]:
    width = max([len(one.layout.name) for one in plan.rated], default=4)
    lines = [f"  {'type':<{width}} {'GPUs':>5} {'USD/h':>9} {'requests/s':>11} {'USD/million requests':>21}"]
    for one in sorted(plan.rated, key=lambda one: one.usd_per_h / one.capacity_per_s):
        usd = one.usd_per_h / one.capacity_per_s / 3600 * 1e6
        lines.append(
            f"  {one.layout.name:<{width}} {one.layout.gpus(1):>5} {one.usd_per_h:>9,.2f}"
            f" {one.capacity_per_s:>11,.3g} {usd:>21,.0f}"
        )
    return lines + [f"  {name}: {why[:WHY]}" for name, why in plan.left_out.items()]


def _notes(plan: DayPlan) -> list[str]:
    fleet = plan.fleet
    notes = []
    if fleet is not None:
        how = "is proved optimal" if fleet.proved else f"is within {fleet.gap:.2%} of its bound"
        notes.append(
            f"the programme {how} for types rated so; with fractions of nodes {fleet.relaxed_usd:,.2f} USD"
            f" ({1.0 - fleet.relaxed_usd / fleet.usd:.1%} less)"
        )
    hours = {tuple(hour.hours) for hour in plan.hours}
    least, most = plan.simulated_s
    if hours and not math.isnan(least):
        seconds = f"{least:,.0f} s" if round(least) == round(most) else f"{least:,.0f} to {most:,.0f} s"
        notes.append(
            f"{plan.simulations} simulations; {len(hours)} distinct hours verified by {seconds} of their requests, each"
            " pool with its share; a type is rated as one of the smallest pool that serves the peak"
        )
    return notes
