"""Published against simulated, a row each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import click

from hardware_models.errors import FleetcastError
from sim.study import Row, load_study, run_study, study_names


def print_list(names: Sequence[str]) -> None:
    """The studies (all, where none is named), a line each."""
    for name in names or study_names():
        click.echo(f"  {name:<36} {load_study(name).title}")


def print_validation(
    names: Sequence[str],
    *,
    as_json: bool,
    points: Sequence[str] = (),
    overrides: Sequence[str] = (),
    out: Path | None = None,
) -> None:
    """Run studies (all, where none is named) and print their rows as they are done.

    points: of the one study named, only these. overrides: `key=value`, set in every scenario. out: a file for the
    results of whole studies as they are. Raises FleetcastError.
    """
    if points and len(names) != 1:
        raise FleetcastError(
            "--point: goes with one study; name it, as in `fleetcast validate FAMILY/NAME --point ...`"
        )
    if out is not None and (points or overrides):
        raise FleetcastError("--out: keeps studies as they are published; leave out --point and --set")
    rows = _print_json if as_json else _print_table
    found = rows(names or study_names(), tuple(points), tuple(overrides))
    if out is not None:
        from app.validation import Validation

        Validation.now(found).write(out)
        click.echo(f"written: {out}", err=as_json)


def _print_json(names: Sequence[str], points: tuple[str, ...], overrides: tuple[str, ...]) -> list[Row]:
    """One JSON list, a line a row, each printed when it is known."""
    from app.validation import record

    rows: list[Row] = []
    click.echo("[")
    for name in names:
        for row in run_study(name, points, overrides):
            if rows:
                click.echo(",")
            click.echo(json.dumps(record(row)), nl=False)
            rows.append(row)
    click.echo("\n]")
    return rows


def _print_table(names: Sequence[str], points: tuple[str, ...], overrides: tuple[str, ...]) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        study = load_study(name)
        click.echo(f"\n{study.title}  ({study.paper})")
        click.echo(f"  {'point':<44} {'simulated':>28} {'published':>14} {'error':>8}")
        for row in run_study(name, points, overrides):
            rows.append(row)
            click.echo(_line(row))
    _print_totals(rows)
    return rows


def _line(row: Row) -> str:
    band = f" [{row.low:.3g}, {row.high:.3g}]" if row.high > row.low else ""
    unit = f" {row.unit}" if row.unit else ""
    line = f"  {row.point:<44} {f'{row.simulated:.4g}{band}{unit}':>28}"
    if math.isnan(row.published_low):
        return line
    published = f"{row.published_low:.4g}"
    if row.published_high > row.published_low:
        published += f" to {row.published_high:.4g}"
        error = "met" if row.bands_meet else f"{row.error_fraction:+.0%}"
    else:
        error = f"{row.error_fraction:+.0%}"
    return f"{line} {published:>14} {error:>8}{' (in the fit)' if row.in_sample else ''}"


def _print_totals(rows: list[Row]) -> None:
    published = [row for row in rows if not math.isnan(row.published_low)]
    known = [row for row in published if not row.in_sample]
    if figures := [row for row in known if row.published_high == row.published_low]:
        errors = sorted(abs(row.error_fraction) for row in figures)
        click.echo(
            f"\n{len(figures)} published figures: median absolute error {errors[len(errors) // 2]:.0%},"
            f" largest {errors[-1]:.0%}"
        )
    if len(known) < len(published):
        click.echo(f"{len(published) - len(known)} more, which an engine's profile was fitted on, are not counted")
    ranges = [row for row in known if row.published_high > row.published_low or row.high > row.low]
    if ranges:
        meeting = sum(row.bands_meet for row in ranges)
        click.echo(f"{meeting} of {len(ranges)} ranges (published, or of what a paper leaves open) meet")
