"""Where a plan goes: standard output, and a folder with plan.json, ready scenarios and a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from sim.result import FileContent, check_run_folder, write_folder
from sim.scenario import Scenario
from sim.scenario_file import relocated, scenario_toml

FILES = ("plan.json", "plans.parquet", "report.html", "best.toml", "pools")


def check_out(folder: Path) -> None:
    """Refuse a place for a plan before the search; raises FleetcastError."""
    check_run_folder(folder, FILES)


def deliver(
    found: Mapping[str, Any],
    lines: Callable[[], list[str]],
    ready: Mapping[str, Scenario],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write the folder, if one is asked for, then print. ready: scenarios by file name; raises FleetcastError."""
    text = json.dumps(found, indent=2, allow_nan=False)
    if out is not None:
        from app.plan_report import plan_report

        files: dict[str, FileContent] = {"plan.json": text + "\n", "report.html": plan_report(dict(found))}
        for name, scenario in ready.items():
            inside = (out / name).resolve().parent
            files[name] = scenario_toml(relocated(scenario, inside))
        check_out(out)
        write_folder(out, files)
    if as_json:
        click.echo(text)
        return
    for line in lines():
        click.echo(line)
    if out is not None:
        run = f"; fleetcast run {out / 'best.toml'}" if "best.toml" in ready else ""
        click.echo(f"  written to {out}: open report.html{run}\n")
