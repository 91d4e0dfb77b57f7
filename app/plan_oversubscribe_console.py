"""The plan of a row on a terminal: the answer, what binds next, how sure it is, and every number that was tried."""

from __future__ import annotations

from typing import Any

import click

from sim.metrics import plain
from sim.plan.power.table import WORDS

HEAD = ("servers", "more", "peak", "no limit", "brakes", "trips", "high p50", "high p99", "low p50", "low p99", "")
IMPACTS = ("high_p50", "high_p99", "low_p50", "low_p99")


def oversubscription_lines(found: dict[str, Any]) -> list[str]:
    """The report, line by line, from its JSON."""
    lines = [
        "",
        click.style(
            f"{found['name']}: most servers behind a breaker of {found['limit_w']:,.0f} W, built for"
            f" {found['built_for']:,}",
            bold=True,
        ),
        f"  allowed: {allowed_words(found)}",
        "",
        *_answer(found),
        "",
    ]
    for policy in found["policies"]:
        lines += _policy(policy, [row for row in found["rows"] if row["policy"] == policy["policy"]])
    lines += [f"  note: {note}" for note in found["notes"]]
    seeds = found["seeds"]
    lines.append(
        f"  note: {found['simulations']} simulations, seeds {seeds[0]} to {seeds[-1]}; peaks are of readings, over the"
        " limit; latencies are end to end, against the same servers without a limit; pairs are low to high over seeds"
    )
    return [*lines, ""]


def allowed_words(found: dict[str, Any]) -> str:
    """What the criteria allow."""
    parts = [
        f"{WORDS[name]} {value_text(name, value)}" for name, value in found["criteria"].items() if value is not None
    ]
    return "at most " + ", ".join(parts)


def value_text(name: str, value: float) -> str:
    """Of a criterion: a rate, or a rise in per cent."""
    return f"{100.0 * value:.3g} %" if name in IMPACTS else plain(value)


def _answer(found: dict[str, Any]) -> list[str]:
    if not found["found"]:
        lines = [f"  {click.style('no answer', fg='red')}: {found['policy']} is not safe with {found['built_for']:,}"]
    else:
        more = "" if found["bounded"] else " or more"
        lines = [
            f"  {click.style('answer', fg='green')}: {found['servers']:,} servers{more} under {found['policy']},"
            f" {100.0 * found['oversubscription']:+.0f} %"
        ]
    if found["binding"] is not None:
        lines.append(f"  next to bind, with {found['binding']['servers']:,}: {binding_words(found['binding'])}")
    if lowered := lowered_words(found):
        lines.append(f"  {lowered}")
    if found["sure"] is not None:
        lines += [f"  {text}" for text in sure_words(found["sure"])]
    return lines


def lowered_words(found: dict[str, Any]) -> str:
    """What the search would have answered, where other seeds do not bear it out; else nothing."""
    searched = found["policies"][0]["servers"]
    if searched is None or searched == found["servers"]:
        return ""
    broken = [f"{row['servers']:,} ({', '.join(row['breaks'])})" for row in found["confirmation"] if not row["safe"]]
    return f"{searched:,} are safe with the search's own seeds; other seeds do not bear out {' and '.join(broken)}"


def binding_words(binding: dict[str, Any]) -> str:
    """The criteria that a number breaks, and by how much."""
    if binding["refused"]:
        return str(binding["refused"])
    return "; ".join(f"{WORDS[name]} {value_text(name, reached)}" for name, reached in binding["reached"].items())


def sure_words(sure: dict[str, Any]) -> list[str]:
    """How sure the answer is."""
    runs = f"{sure['runs']} runs with other seeds" if sure["fresh"] else f"{sure['runs']} runs, the search's own"
    count = "no brake" if not sure["brakes"] else f"{sure['brakes']} brakes"
    return [
        f"{runs}, {plain(sure['hours'])} h: {count}; with {sure['confidence']:.0%} confidence no more than"
        f" {plain(sure['most_brakes_per_h'])} brakes an hour of such traffic,",
        f"and no more than {sure['most_bad_share']:.0%} of such runs break a criterion"
        f" ({sure['runs_for_few']} runs, none bad, would say {sure['few']:.0%}: --confirm {sure['runs_for_few']})",
    ]


def _policy(policy: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    title = click.style(policy["policy"], bold=True)
    if policy["refused"]:
        return [f"  {title}: {policy['refused']}", ""]
    share = policy["oversubscription"]
    best = "none is safe" if policy["servers"] is None else f"{policy['servers']:,} are safe ({100.0 * share:+.0f} %)"
    cells = [row_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in (HEAD, *cells)) for i in range(len(HEAD) - 1)]
    table = [
        "  ".join(("", *(cell.rjust(width) for cell, width in zip(line[:-1], widths, strict=False)), line[-1])).rstrip()
        for line in (HEAD, *cells)
    ]
    return [f"  {title}: {best}", *table, ""]


def row_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table under HEAD."""
    first = (f"{row['servers']:,}", f"{100.0 * row['oversubscription']:+.0f} %")
    if row["refused"]:
        return (*first, *("-" for _ in HEAD[2:-1]), row["refused"])
    return (
        *first,
        span_text(row["peak_fraction"], "%"),
        span_text(row["peak_fraction_without_limit"], "%"),
        plain(row["brakes"]),
        plain(row["breaker_trips"]),
        *(span_text(row[name], "%") for name in IMPACTS),
        "safe" if row["safe"] else ", ".join(row["breaks"]),
    )


def span_text(pair: list[float] | tuple[float, float] | None, unit: str) -> str:
    """Low to high of a share, in per cent; one number where they are shown alike."""
    if pair is None:
        return "-"
    low, high = (f"{100.0 * value:.1f}" for value in pair)
    return f"{low} {unit}" if low == high else f"{low}..{high} {unit}"
