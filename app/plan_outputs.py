"""Where a plan goes: standard output, and a folder with plan.json, ready scenarios and a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from sim.result import FileContent, check_run_folder, write_folder
from sim.scenario_file import AnyScenario, relocated, scenario_toml

FILES = ("plan.json", "plans.parquet", "report.html", "best.toml", "pools")


def check_out(folder: Path) -> None:
    """Refuse a place for a plan before the search; raises FleetcastError."""
    check_run_folder(folder, FILES)


def deliver(
    found: Mapping[str, Any],
    lines: Callable[[], list[str]],
    ready: Mapping[str, AnyScenario],
    out: Path | None,
    *,
    as_json: bool,
    tables: Mapping[str, FileContent] | None = None,
) -> None:
    """Write the folder, if one is asked for, then print. ready: scenarios by file name; tables: further files by name;
    raises FleetcastError.
    """
    text = json.dumps(found, indent=2, allow_nan=False)
    if out is not None:
        files: dict[str, FileContent] = {"plan.json": text + "\n", **(tables or {}), "report.html": _page(dict(found))}
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


def _page(found: dict[str, Any]) -> str:
    """The page that shows the answer to the plan's question; plotly loads only where one is written."""
    if found["question"] == "training":
        from app.plan_training_report import training_plan_report

        return training_plan_report(found)
    if found["question"] == "training energy":
        from app.plan_energy_report import energy_plan_report

        return energy_plan_report(found)
    if found["question"] == "oversubscription":
        from app.plan_oversubscribe_report import oversubscription_report

        return oversubscription_report(found)
    if found["question"] == "offload":
        from app.plan_offload_report import offload_plan_report

        return offload_plan_report(found)
    from app.plan_report import plan_report

    return plan_report(found)
