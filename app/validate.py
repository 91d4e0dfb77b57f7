"""Published against simulated, a row each."""

from __future__ import annotations

import json
import math

import click

from sim.study import Row, load_study, run_study, study_names


def print_validation(names: tuple[str, ...], only_list: bool, as_json: bool) -> None:
    """Run studies (all, where none is named) and print their rows as they are done."""
    chosen = names or tuple(study_names())
    if only_list:
        for name in chosen:
            click.echo(f"  {name:<36} {load_study(name).title}")
        return
    rows: list[Row] = []
    for name in chosen:
        study = load_study(name)
        if not as_json:
            click.echo(f"\n{study.title}  ({study.paper})")
            click.echo(f"  {'point':<44} {'simulated':>28} {'published':>14} {'error':>8}")
        for row in run_study(name):
            rows.append(row)
            if not as_json:
                click.echo(_line(row))
    if as_json:
        click.echo(json.dumps([_record(row) for row in rows], indent=2))
    else:
        _print_totals(rows)


def _line(row: Row) -> str:
    band = f" [{row.low:.3g}, {row.high:.3g}]" if row.high > row.low else ""
    unit = f" {row.unit}" if row.unit else ""
    line = f"  {row.point:<44} {f'{row.simulated:.4g}{band}{unit}':>28}"
    if math.isnan(row.published_low):
        return line
    published = f"{row.published_low:.4g}"
    if row.published_high > row.published_low:
        published += f" to {row.published_high:.4g}"
    return f"{line} {published:>14} {row.error_fraction:>+8.0%}{' (in the fit)' if row.in_sample else ''}"


def _print_totals(rows: list[Row]) -> None:
    published = [row for row in rows if not math.isnan(row.published_low)]
    known = [row for row in published if not row.in_sample]
    if known:
        errors = sorted(abs(row.error_fraction) for row in known)
        click.echo(
            f"\n{len(known)} published figures: median absolute error {errors[len(errors) // 2]:.0%},"
            f" largest {errors[-1]:.0%}"
        )
    if len(known) < len(published):
        click.echo(f"{len(published) - len(known)} more, which an engine's profile was fitted on, are not counted")
    ranges = [row for row in known if row.published_high > row.published_low or row.high > row.low]
    if ranges:
        meeting = sum(row.bands_meet for row in ranges)
        click.echo(f"{meeting} of {len(ranges)} ranges (published, or of what a paper leaves open) meet")


def _record(row: Row) -> dict[str, float | str | None]:
    record = {name: getattr(row, name) for name in row.__dataclass_fields__}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
