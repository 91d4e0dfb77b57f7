"""`fleetcast calibrate report`: how far calibrated kernels are off, as tables and as a page of pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.commands import FleetcastCommand
from hardware_models.errors import FleetcastError

if TYPE_CHECKING:
    from calibration.report.errors import Errors
    from calibration.report.judge import Judged


@click.command("report", cls=FleetcastCommand)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder of published tables: predict all their points anew."
)
@click.option("--calibration", type=click.Path(path_type=Path), help="Folder of fits [default: the catalog's own].")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with pictures (.html).")
@click.option(
    "--markdown",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the tables between their marks in this file, as docs/fidelity.md has them.",
)
def report(data: Path | None, calibration: Path | None, out: Path | None, markdown: Path | None) -> None:
    """Show how far predictions of kernels are off on sizes, benchmarks and devices that no fit has seen.

    From the fits' own files alone, or with --data from every published point.
    """
    from app.calibrate import held_out_table
    from calibration.fit.files import require_fit_files
    from calibration.report import markdown as tables
    from calibration.report.errors import errors_of
    from hardware_models.fits import FOLDER

    folder = calibration or FOLDER
    files = require_fit_files(folder)
    judged = _judged(data, folder) if data is not None else []
    errors = [errors_of(one) for one in judged]
    if markdown is not None:
        blocks = {tables.FITS: tables.fits_block(files)}
        if data is not None:
            blocks[tables.POINTS] = tables.points_block(errors, files)
            if folder == FOLDER:  # servers are priced with the shipped calibration
                blocks[tables.SERVERS] = _servers(data)
        tables.put_blocks(markdown, blocks)
    if out is not None:
        from app.fidelity_page import fidelity_page

        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(fidelity_page(files, judged, errors))
    if errors:
        click.echo("\n".join(error_table(errors)))
    elif markdown is None and out is None:
        ordered = [files[d, k] for d in tables.devices_of(files) for k in tables.kernels_of(files, d)]
        click.echo("\n".join(held_out_table(ordered)))
    for path in (markdown, out):
        if path is not None:
            click.echo(f"written: {path}")


def _servers(data: Path) -> str:
    from calibration.end_to_end.compare import serving_errors
    from calibration.report.markdown import servers_block

    click.echo("servers played again", err=True)
    return servers_block(serving_errors(data))


def _judged(data: Path, folder: Path) -> list[Judged]:
    from calibration.fit.files import read_fit_files
    from calibration.report.judge import judge

    if not data.is_dir():
        raise FleetcastError(f"--data {data}: is no folder; give the one that holds a folder a source")
    started, judged = time.monotonic(), []
    for one in judge(data, folder, read_fit_files(folder)):
        judged.append(one)
        passed = time.monotonic() - started
        line = f"{one.device} {one.operator} {one.key} {one.origin}: {len(one.measured_s):,} points, {one.part}"
        click.echo(f"[{passed:5.0f} s] {line}", err=True)
    if not judged:
        raise FleetcastError(f"--data {data}: holds no timings of a calibrated device; give the sources' folder")
    return judged


def error_table(errors: list[Errors]) -> list[str]:
    """Errors on published points, a line a kernel, format, benchmark and part."""
    from calibration.report.judge import PARTS

    lines = []
    for part in PARTS:
        head = f"{'kernel':<18} {'format':<22} {'benchmark':<22} {'points':>8} {'median':>7} {'p90':>8} {'bias':>7}"
        lines += ["", part, f"{'device':<15} {head} {'in 90 %':>8} {'rank':>6}"]
        lines += [
            f"{one.device:<15} {one.operator:<18} {one.key:<22} {one.origin:<22} {one.points:>8,} {one.median:>7.1%}"
            f" {one.p90:>8.1%} {one.bias:>+7.1%} {one.coverage:>8.0%} {one.rank:>6.3f}"
            for one in sorted(errors, key=lambda one: (one.device, one.operator, one.key, one.origin))
            if one.part == part
        ]
    return lines


def add_commands(group: click.Group) -> None:
    """Register the commands of this file on `fleetcast calibrate`."""
    group.add_command(report)
