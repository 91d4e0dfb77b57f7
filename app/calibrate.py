"""`fleetcast calibrate measure` and `fit`: time the machine at hand, and make kernels' parameters of the times."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.commands import FleetcastCommand
from hardware_models.errors import FleetcastError

if TYPE_CHECKING:
    from hardware_models.fits import FitFile

DEFAULT_BUDGET_S = 540.0
DAY = click.DateTime(["%Y-%m-%d"])


@click.command("measure", cls=FleetcastCommand, interrupted="what was measured is in the folder, run again to go on")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder that the points are appended to.")
@click.option(
    "--budget-s",
    type=click.FloatRange(min=1.0, max=86_400.0),
    default=DEFAULT_BUDGET_S,
    show_default=True,
    help="Seconds until it ends; run again with the same folder to go on.",
)
@click.option("--only", "kinds", multiple=True, metavar="KIND", help="Measure this kind alone; may be given again.")
@click.option("--scratch", type=click.Path(path_type=Path, file_okay=False), help="Folder of the disk to measure.")
@click.option("--archive", "as_archive", is_flag=True, help="Also write OUT.tar.gz, one file to carry away.")
@click.option("--list", "only_list", is_flag=True, help="Show how many points of each kind would be measured.")
def measure(
    device: str,
    out: Path | None,
    budget_s: float,
    kinds: tuple[str, ...],
    scratch: Path | None,
    as_archive: bool,
    only_list: bool,
) -> None:
    """Time operators, copies, disk and power of this machine: the most telling points first, within a budget.

    Needs PyTorch for all but disk and memory. Changes no clock, limit or mode.
    """
    from calibration.measure.report import plan_table, result_table
    from calibration.measure.session import Request, archive, planned
    from calibration.measure.session import measure as run_measure
    from calibration.measurement_kinds import kind as kind_named

    for name in kinds:
        kind_named(name)
    request = Request(device=device, out=out or Path(), budget_s=budget_s, kinds=kinds, scratch=scratch)
    if only_list:
        click.echo(plan_table(planned(request)))
        return
    if out is None:
        raise FleetcastError("--out is missing; give the folder that the measurements go to")
    try:
        results = run_measure(request)
    finally:
        if as_archive and out.is_dir():
            click.echo(f"archive: {archive(out)}", err=True)
    click.echo(result_table(results))
    click.echo(f"folder: {out}")


@click.command("fit", cls=FleetcastCommand, interrupted="fits already written are whole, run again for the rest")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of published tables, one folder a source.")
@click.option(
    "--measurements",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder that `calibrate measure` wrote; preferred to published tables; may be given again.",
)
@click.option(
    "--device", "devices", multiple=True, metavar="NAME", help="Fit this GPU of the catalog alone; repeatable."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to [default: the catalog's own]."
)
@click.option("--date", type=DAY, help="Date to write into the files, as 2026-01-31 [default: today].")
@click.option("--jobs", type=click.IntRange(1), help="Processes [default: one a CPU].")
def fit(
    data: Path | None,
    measurements: tuple[Path, ...],
    devices: tuple[str, ...],
    out: Path | None,
    date: datetime | None,
    jobs: int | None,
) -> None:
    """Fit kernels and links to timings, and write their parameters, errors on held-out sizes, and error bars.

    From one set of timings to all that simulations price operators with: a file a device and kind of kernel, one a
    link, and relatives.toml, how well devices price each other.
    """
    import os

    from calibration.fit.run import FitRequest, fit_all
    from hardware_models.fits import FOLDER

    if data is None and not measurements:
        raise FleetcastError("--data or --measurements is missing; give the folder of the timings to fit")
    started = time.monotonic()
    request = FitRequest(
        data=data,
        measurements=measurements,
        devices=devices,
        out=out or FOLDER,
        date=(date or datetime.now()).date(),
        jobs=jobs or os.cpu_count() or 1,
    )
    files = fit_all(request, lambda line: click.echo(f"[{time.monotonic() - started:5.0f} s] {line}", err=True))
    click.echo("\n".join(held_out_table(files)))
    click.echo(f"{sum(len(file.fit) for file in files)} fits in {len(files)} files of {request.out}")


@click.command("frameworks")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder of published tables, one folder a source."
)
def frameworks(data: Path) -> None:
    """Fit what serving engines add to a step on the host, from whole servers at fixed concurrency.

    Prints the host times that belong into `hardware_models/frameworks/ENGINE.toml`, and their errors on
    tensor-parallel sizes kept out.
    """
    from calibration.fit.framework import bare_table, fit_frameworks

    click.echo(
        f"{'engine':<14} {'ms a step':>10} {'us a sequence':>14} {'sigma':>6} {'kept out':>9} {'median':>7} {'p90':>7}"
    )
    for one in fit_frameworks(bare_table(data)):
        click.echo(
            f"{one.engine:<14} {one.host_s_per_step * 1e3:>10.2f} {one.host_s_per_sequence * 1e6:>14.1f}"
            f" {one.sigma:>6.2f} {one.judged:>9,} {one.median_error:>7.1%} {one.p90_error:>7.1%}"
        )


def held_out_table(files: list[FitFile]) -> list[str]:
    """Errors on sizes kept out of each fit, a line a fit."""
    head = f"{'device':<15} {'kernel':<18} {'format':<22} {'points':>7} {'kept out':>8} {'median':>7} {'p90':>7}"
    lines = [f"{head} {'bias':>7} {'in 90 %':>8}"]
    for file in files:
        for one in file.fit:
            judged = one.held_out
            lines.append(
                f"{file.device:<15} {file.operator:<18} {one.key:<22} {one.points:>7,} {judged.points:>8,}"
                f" {judged.median:>7.1%} {judged.p90:>7.1%} {judged.bias:>+7.1%} {judged.coverage:>8.0%}"
            )
    return lines


def add_commands(group: click.Group) -> None:
    """Register the commands of this file on `fleetcast calibrate`."""
    group.add_command(measure)
    group.add_command(fit)
    group.add_command(frameworks)
