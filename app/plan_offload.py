"""`fleetcast plan` of a scenario with [offload], on a terminal and where the plan goes: policies, and what to buy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.plan_outputs import deliver
from sim.metrics import plain
from sim.plan.offload.table import offload_plan_json

if TYPE_CHECKING:
    from app.plan_progress import Line
    from sim.plan.offload import OffloadPlan
    from sim.plan.offload.outcome import OffloadScenario

POLICY_HEAD = ("policy", "tokens/s", "90 %", "TFLOP/s", "at once", "setting")
BUY_HEAD = ("buy", "tokens/s", "gain", "tokens/USD", "largest model", "under")
LITTLE = 0.01  # of the throughput: what gains less helps nothing to speak of
UNITS = {"training": "sequences of a micro-batch", "inference": "sequences of a block"}


def offload(scenario: OffloadScenario, options: dict[str, Any], line: Line) -> None:
    """Plan and deliver; options: as the command takes them."""
    from sim.plan.offload import plan_offload

    found = plan_offload(scenario, line.say)
    line.clear()
    deliver_offload(found, options["out"], as_json=options["as_json"])


def deliver_offload(found: OffloadPlan, out: Path | None, *, as_json: bool) -> None:
    """Write the folder, if one is asked for, then print; raises FleetcastError."""
    answer = offload_plan_json(found)
    ready = {} if found.best is None else {"best.toml": found.best}
    deliver(answer, lambda: offload_lines(answer), ready, out, as_json=as_json)


def offload_lines(found: dict[str, Any]) -> list[str]:
    """The report, line by line, from what plan.json holds."""
    lines = ["", click.style(f"{found['name']}: {found['model']} on {found['node']}", bold=True), ""]
    colour = "green" if found["found"] else "red"
    lines += [f"  {click.style('answer', fg=colour)}: {answer_words(found)}"]
    lines += [f"  {largest_words(found)}"] if found["largest"] else []
    lines += ["", *_table(POLICY_HEAD, [policy_cells(row) for row in found["policies"]])]
    lines += [f"  {row['policy']}: cannot: {row['reason']}" for row in found["refused"]]
    lines += ["", click.style("  what to buy next", bold=True)]
    lines += _table(BUY_HEAD, [buy_cells(row) for row in found["purchases"]])
    lines += [f"  {row['name']}: {text}" for row in found["purchases"] if (text := buy_words(row))]
    notes = [*found["notes"], f"{found['simulations']} simulations; at once: {UNITS[found['job']]}"]
    return [*lines, "", *(f"  note: {note}" for note in notes), ""]


def answer_words(found: dict[str, Any]) -> str:
    """What is fastest, how sure that is, and what it waits for."""
    if not found["found"]:
        return "no policy runs this model on this machine"
    best = found["policies"][0]
    close = [row["policy"] for row in found["policies"] if row["too_close"]]
    sure = f" (too close to call against {', '.join(close)})" if close else ""
    return f"{best['policy']}, {plain(best['tokens_per_s'])} tokens/s{sure}. {best['bottleneck']}"


def largest_words(found: dict[str, Any]) -> str:
    """The largest model, and which tier stops it."""
    largest = found["largest"]
    if not largest["layers"]:
        return f"not one layer of this width fits: {largest['tier']} is too small"
    return f"largest model: {model_text(largest)} parameters by {found['largest_by']}{_stopped(largest)}"


def _stopped(largest: dict[str, Any]) -> str:
    return "" if largest["tier"] == "none" else f", then {largest['tier']} has no room left"


def model_text(largest: dict[str, Any] | None) -> str:
    """Parameters of a model; a sign where more was not tried."""
    if largest is None:
        return "-"
    more = "at least " if largest["tier"] == "none" else ""
    return f"{more}{largest['parameters'] / 1e9:,.0f} G"


def policy_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of a table with POLICY_HEAD."""
    low, high = row["tokens_per_s_90"]
    flop = row["model_flop_per_s_per_gpu"]
    return (
        row["policy"],
        plain(row["tokens_per_s"]),
        f"{plain(low)} to {plain(high)}",
        "-" if flop is None else f"{flop / 1e12:.1f}",
        f"{row['batch']:,}",
        row["setting"],
    )


def buy_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of a table with BUY_HEAD."""
    gain, per_usd, more = row["gain_fraction"], row["tokens_per_usd_gain_fraction"], row["largest_gain_parameters"]
    largest = model_text(row["largest"])
    return (
        row["name"],
        "-" if row["tokens_per_s"] is None else plain(row["tokens_per_s"]),
        "runs" if row["makes_it_run"] else "-" if gain is None else f"{gain:+.1%}",
        "-" if per_usd is None else f"{per_usd:+.1%}",
        f"{largest} ({more / 1e9:+,.0f} G)" if more else largest,
        "" if row["policy"] is None else f"{row['policy']}, {row['batch']:,} at once",
    )


def buy_words(row: dict[str, Any]) -> str:
    """What the table cannot say of an addition: that it helps nothing, and what the job waits for then."""
    said = [row["remark"]] if row["remark"] else []
    gain = row["gain_fraction"]
    if row["possible"] and row["tokens_per_s"] is None:
        said.append("still no policy runs")
    if gain is not None and not row["replaces"] and gain < LITTLE and not (row["largest_gain_parameters"] or 0.0):
        said.append(f"helps nothing to speak of. {row['bottleneck']}")
    elif gain is not None:
        said.append(row["bottleneck"])
    return "; ".join(said)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    last = len(head) - 1
    return [
        "  " + "  ".join(
            f"{cell:<{width}}" if at in (0, last) else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]  # fmt: skip
