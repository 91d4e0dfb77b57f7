"""`fleetcast plan --oversubscribe`: asks for the plan of a row and says where it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.plan_outputs import check_out
from sim.result import FileContent, write_folder
from sim.scenario_file import relocated, scenario_toml

if TYPE_CHECKING:
    from app.plan_progress import Line
    from sim.plan.power import Oversubscription
    from sim.scenario import Scenario

SEEDS = 3


def oversubscribe(scenario: Scenario, options: dict[str, Any], policies: tuple[str, ...] | None, line: Line) -> bool:
    """Plan, deliver, and say whether there is an answer; options: as the command takes them."""
    from sim.plan.power import Criteria, OversubscribeOptions, plan_oversubscription

    asked = OversubscribeOptions(
        criteria=Criteria().changed(options["allow"]),
        built_for=options["built_for"],
        most_servers=options["most_servers"],
        policies=policies,
        seeds=SEEDS if options["most_seeds"] is None else options["most_seeds"],
        confirm=options["confirm"],
        confidence=options["confidence"],
        workers=options["workers"],
    )
    found = plan_oversubscription(scenario, asked, line.say)
    line.clear()
    deliver_oversubscription(found, options["out"], as_json=options["as_json"])
    return found.answer is not None


def deliver_oversubscription(found: Oversubscription, out: Path | None, *, as_json: bool) -> None:
    """Write the folder, if one is asked for, then print; raises FleetcastError."""
    from app.plan_oversubscribe_console import oversubscription_lines
    from sim.plan.power.table import oversubscription_json

    answer = oversubscription_json(found)
    text = json.dumps(answer, indent=2, allow_nan=False)
    best = found.best
    if out is not None:
        from app.plan_oversubscribe_report import oversubscription_report

        files: dict[str, FileContent] = {"plan.json": text + "\n", "report.html": oversubscription_report(answer)}
        if best is not None:
            files["best.toml"] = scenario_toml(relocated(best, out.resolve()))
        check_out(out)
        write_folder(out, files)
    if as_json:
        click.echo(text)
        return
    for line in oversubscription_lines(answer):
        click.echo(line)
    if out is not None:
        run = f"; fleetcast run {out / 'best.toml'}" if best is not None else ""
        click.echo(f"  written to {out}: open report.html{run}\n")
