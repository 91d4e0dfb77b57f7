"""What a sweep would do and take, before it does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from app.sweep_progress import time_text
from app.sweep_report import asked_lines
from sim.metrics import plain
from sim.sweep.definition import Sweep
from sim.sweep.estimate import LIMIT_S, Estimate, estimate


def print_estimate(
    sweep: Sweep, out: Path | None, *, workers: int | None, cluster: str | None, reuse: Sequence[Path], as_json: bool
) -> None:
    """Time a few points and print what the whole would take."""
    if out is not None:
        from sim.sweep.folder import check_sweep_folder

        check_sweep_folder(out)
    found = estimate(sweep, out, workers=workers, cluster=cluster, reuse=reuse)
    if as_json:
        click.echo(json.dumps(_record(found), indent=2))
    else:
        for line in estimate_lines(found):
            click.echo(line)


def estimate_lines(found: Estimate) -> list[str]:
    """The report of a dry run."""
    points = found.points
    lines = ["", *asked_lines(points.sweep, len(points), len(points.settings), points.excluded, points.repeated), ""]
    lines.append(
        f"  {found.pending:,} to run, {found.cached:,} known already, {found.impossible:,} infeasible at sight"
    )
    if found.pending:
        low, high = min(found.point_s), max(found.point_s)
        workers = f"{found.at_once:,} worker{'' if found.at_once == 1 else 's'}"
        if found.at_least:
            lines.append(f"  a point takes more than {LIMIT_S:g} s: at least {time_text(found.total_s)} on {workers}")
        else:
            timed = f"{len(found.point_s)} timed points took {plain(low * 1e3)} to {plain(high * 1e3)} ms each"
            lines.append(f"  about {time_text(found.total_s)} on {workers}: {timed}")
    return [*lines, "  dry run: nothing was written", ""]


def _record(found: Estimate) -> dict[str, object]:
    points = found.points
    return {
        "name": points.sweep.name,
        "points": len(points),
        "settings": len(points.settings),
        "excluded_by_constraints": points.excluded,
        "repeated": points.repeated,
        "cached": found.cached,
        "infeasible_at_sight": found.impossible,
        "pending": found.pending,
        "workers": found.at_once,
        "sampled_point_s": list(found.point_s),
        "estimate_s": found.total_s,
        "estimate_is_least": found.at_least,
    }
