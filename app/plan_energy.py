"""`fleetcast plan --energy`: a training step's seconds against its joules, on a terminal and where the plan goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.plan_outputs import deliver
from sim.metrics import plain
from sim.plan.training.energy_table import energy_plan_json

if TYPE_CHECKING:
    from sim.plan.training.energy import EnergyPlan

HEAD = ("by", "setting", "step, s", "longer", "GPUs, kJ", "saved", "site, kJ", "saved", "electricity, USD", "")


def deliver_energy(found: EnergyPlan, out: Path | None, *, as_json: bool) -> None:
    """Write the folder, if one is asked for, then print; raises FleetcastError."""
    answer = energy_plan_json(found)
    deliver(answer, lambda: energy_lines(answer), {"best.toml": found.best}, out, as_json=as_json)


def energy_lines(found: dict[str, Any]) -> list[str]:
    """The report, line by line, from what plan.json holds."""
    rows = [HEAD, *(energy_cells(row, found) for row in found["rows"])]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
    lines = ["", click.style(f"{found['name']}: what a longer step saves", bold=True), ""]
    lines += [f"  {click.style('answer', fg='green')}: {answer_words(found)}", ""]
    for row in rows:
        cells = [f"{cell:<{width}}" if at < 2 else f"{cell:>{width}}" for at, (cell, width) in _columns(row, widths)]
        lines.append("  " + "  ".join(cells).rstrip())
    return [*lines, "", *(f"  note: {note}" for note in found["notes"]), ""]


def _columns(row: tuple[str, ...], widths: list[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(row, widths, strict=True)))


def answer_words(found: dict[str, Any]) -> str:
    """What was chosen, by what, and what it saves."""
    row, limit_s = found["chosen"], found["step_limit_s"]
    why = "costs least" if limit_s is None else f"draws least within {limit_s:g} s"
    setting = f", {row['setting']}" if row["setting"] else ""
    return (
        f"{row['by']}{setting}: {why}; a step of {plain(row['step_s'])} s ({row['slowdown_fraction']:+.1%}) saves"
        f" {row['gpu_saved_fraction']:.1%} of the GPUs' joules and {row['site_saved_fraction']:.1%} of the site's"
    )


def energy_cells(row: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    """A row of a table with HEAD."""
    mark = "chosen" if row == found["chosen"] else "front" if row["on_front"] else ""
    return (
        row["by"],
        row["setting"],
        plain(row["step_s"]),
        f"{row['slowdown_fraction']:.1%}",
        plain(row["gpu_j"] / 1e3),
        f"{row['gpu_saved_fraction']:.1%}",
        plain(row["site_j"] / 1e3),
        f"{row['site_saved_fraction']:.1%}",
        plain(row["electricity_usd"]),
        mark,
    )
