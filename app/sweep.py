"""`fleetcast sweep`: many runs from one file, and what they say together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.commands import INTERRUPTED, FleetcastCommand

if TYPE_CHECKING:
    import pandas as pd

    from sim.sweep.definition import Sweep


@click.command("sweep", cls=FleetcastCommand)
@click.argument("sweep", type=click.Path(path_type=Path))
@click.option("--workers", type=int, metavar="N", help="Processes on this machine; one a core by default.")
@click.option("--cluster", metavar="ADDRESS", help="Run on a Dask cluster, such as tcp://10.0.0.1:8786.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Keep rows, report and best scenario in this folder; go on from it."
)
@click.option(
    "--reuse", multiple=True, type=click.Path(path_type=Path), help="Folder of another sweep whose points may be used."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the sweep (samples=50) or its scenario.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, say how many points and how long; write nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the findings as JSON on standard output, and nothing else."
)
@click.pass_context
def sweep(
    context: click.Context,
    sweep: Path,
    workers: int | None,
    cluster: str | None,
    out: Path | None,
    reuse: tuple[Path, ...],
    overrides: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run the points of SWEEP (a TOML file) and report the best one, what matters, and the trade-offs.

    A point that fails is a row with its reason. A sweep that was stopped goes on where it was, with the same --out.
    """
    from sim.sweep.definition import load_sweep

    loaded = load_sweep(sweep, overrides)
    if dry_run:
        from app.sweep_dry_run import print_estimate

        print_estimate(loaded, out, workers=workers, cluster=cluster, reuse=reuse, as_json=as_json)
        return
    rows = _run(context, loaded, out, workers, cluster, reuse)
    from app.sweep_json import findings
    from app.sweep_report import report_lines
    from sim.sweep.analysis import analyse

    analysis = analyse(loaded, rows)
    if as_json:
        click.echo(json.dumps(findings(analysis), indent=2, allow_nan=False))
    else:
        for line in report_lines(analysis, out):
            click.echo(line)


def _run(
    context: click.Context,
    loaded: Sweep,
    out: Path | None,
    workers: int | None,
    cluster: str | None,
    reuse: tuple[Path, ...],
) -> pd.DataFrame:
    """The rows; an interrupt ends the command."""
    from app.sweep_progress import ProgressLine, stop_on_signals
    from sim.sweep.points import expand
    from sim.sweep.runner import SweepStoppedError, run_sweep

    points = expand(loaded)  # a signal before the first point has nothing to keep
    line = ProgressLine()
    try:
        with stop_on_signals() as stop:
            return run_sweep(
                points, out, workers=workers, cluster=cluster, reuse=reuse, watch=line.show, stop=stop,
                report=lambda folder, rows: _write_report(loaded, folder, rows),
            )  # fmt: skip
    except SweepStoppedError:
        line.close()
        kept = f"what is done is kept in {out}; run it again to go on" if out is not None else "nothing was written"
        click.echo(f"fleetcast: interrupted; {kept}", err=True)
        context.exit(INTERRUPTED)
    finally:
        line.close()


def _write_report(loaded: Sweep, folder: Path, rows: pd.DataFrame) -> None:
    from app.sweep_page import html_report
    from sim.sweep.analysis import analyse
    from sim.sweep.folder import REPORT
    from sim.sweep.parts import write_text

    write_text(html_report(analyse(loaded, rows)), folder / REPORT)
