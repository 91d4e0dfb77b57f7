"""Where a training plan goes: standard output, and a folder with its rows, the winning scenario and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.plan_outputs import check_out
from app.plan_training_console import training_plan_lines
from sim.plan.training.table import every_plan, training_plan_json
from sim.result import FileContent, write_folder
from sim.scenario_file import relocated, scenario_toml

if TYPE_CHECKING:
    from sim.plan.training.planner import PlannedTraining


def deliver_training(found: PlannedTraining, out: Path | None, *, as_json: bool) -> None:
    """Write the folder, if one is asked for, then print; raises FleetcastError."""
    answer = training_plan_json(found)
    text = json.dumps(answer, indent=2, allow_nan=False)
    if out is not None:
        import pandas as pd

        from app.plan_training_report import training_plan_report

        rows = pd.DataFrame(every_plan(found))
        files: dict[str, FileContent] = {
            "plan.json": text + "\n",
            "plans.parquet": lambda path: rows.to_parquet(path, index=False),
            "report.html": training_plan_report(answer),
            "best.toml": scenario_toml(relocated(found.best, out.resolve())),
        }
        check_out(out)
        write_folder(out, files)
    if as_json:
        click.echo(text)
        return
    for line in training_plan_lines(answer):
        click.echo(line)
    if out is not None:
        click.echo(f"  written to {out}: open report.html; fleetcast run {out / 'best.toml'}\n")
