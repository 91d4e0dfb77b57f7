"""The tables of docs/fidelity.md, written between marks in the text that stands around them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from calibration.fit.datasets import OPERATORS
from calibration.report.errors import Errors
from calibration.report.judge import PARTS, Files
from calibration.report.targets import meets
from hardware_models.errors import FleetcastError
from hardware_models.fits import REGIMES, FitFile, KernelFit
from hardware_models.link_parameters import FOLDER as LINKS
from hardware_models.link_parameters import REGIMES as LINK_REGIMES

FITS, POINTS, SERVERS = "fits", "points", "servers"  # names of the blocks
CONDITIONS = ("copies", "cache_resident", "balanced")  # how a benchmark ran, beside its sizes


def fits_block(files: Files) -> str:
    """A section a device: how far each fit is off on sizes kept out of it, its error bars and its sources."""
    sections = []
    for device in devices_of(files):
        own = [files[device, operator] for operator in kernels_of(files, device)]
        names = LINK_REGIMES if device == LINKS else REGIMES
        first = "link" if device == LINKS else "kernel"
        head = [first, "format", "points", "kept out", "median", "p90", "bias", "in 90 %", *names, "targets"]
        rows = [_fit_row(file, fit, names) for file in own for fit in file.fit]
        sections.append("\n".join([f"### {device}", "", *_table(head, rows), "", *_sources(own), "", *_ranges(own)]))
    return "\n\n".join(sections)


def points_block(found: Iterable[Errors], files: Files) -> str:
    """A section a device: errors on every published point, apart by what the calibration had seen of it."""
    found = list(found)
    head = ["kernel", "format", "benchmark", "points", "median", "p90", "bias", "in 90 %", "rank correlation"]
    lines = [f"Predicted with calibration `{fingerprint(files)}`."]
    for device in devices_of(files):
        for part in PARTS:
            rows = [_error_row(one) for one in _ordered(found) if (one.device, one.part) == (device, part)]
            if rows:
                lines += ["", f"**{device}, {part}**", "", *_table(head, rows)]
    return "\n".join(lines)


def servers_block(errors: pd.DataFrame) -> str:
    """Whole servers, measured against simulated: a row a system and metric (see `serving_errors`)."""
    head = ["server", "metric", "points", "median", "p90", "bias", "in 90 %"]
    rows = [
        [str(system), str(metric), f"{points:,}", percent(median), percent(p90), percent(bias, sign=True),
         f"{coverage * 100:.0f} %"]
        for system, metric, points, median, p90, bias, coverage in errors.to_numpy().tolist()
    ]  # fmt: skip
    return "\n".join(_table(head, rows))


def fingerprint(files: Files) -> str:
    """Twelve digits that tell one set of fits from another; files and their order on disk do not matter."""
    digest = hashlib.sha256()
    for key in sorted(files):
        digest.update(files[key].model_dump_json().encode())
    return digest.hexdigest()[:12]


def devices_of(files: Files) -> list[str]:
    """Devices with fits, by name; links last."""
    return sorted({device for device, _ in files}, key=lambda name: (name == LINKS, name))


def kernels_of(files: Files, device: str) -> list[str]:
    """A device's kinds of kernels in the usual order; links by name."""
    known = list(OPERATORS)
    names = sorted(operator for name, operator in files if name == device)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def put_blocks(path: Path, blocks: dict[str, str]) -> None:
    """Replace what stands between `<!-- NAME begins -->` and `<!-- NAME ends -->`; a file that is not there begins as
    nothing but its blocks. Raises FleetcastError for a file without a mark.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(f"{_mark(name, 'begins')}\n{_mark(name, 'ends')}\n" for name in blocks))
    text = path.read_text()
    for name, block in blocks.items():
        begins, ends = _mark(name, "begins"), _mark(name, "ends")
        if text.count(begins) != 1 or text.count(ends) != 1 or text.index(ends) < text.index(begins):
            raise FleetcastError(f"--markdown {path}: lacks the lines '{begins}' and '{ends}'; add them once each")
        before, _, rest = text.partition(begins)
        text = f"{before}{begins}\n\n{block}\n\n{ends}{rest.partition(ends)[2]}"
    path.write_text(text)


def block_in(text: str, name: str) -> str:
    """What stands between the marks of a block."""
    return text.partition(_mark(name, "begins"))[2].partition(_mark(name, "ends"))[0].strip()


def percent(share: float, sign: bool = False) -> str:
    """`4.2 %`; a thousand per cent and more without decimals."""
    text = f"{share * 100:+.1f}" if sign else f"{share * 100:.1f}"
    return f"{text} %" if abs(share) < 10 else f"{share * 100:,.0f} %"


def sizes_text(fit: KernelFit) -> str:
    """What a fit is valid for: `m 1 to 65,536; n 32 to 65,536`."""
    return "; ".join(
        f"{name} {_number(low)}" if low == high else f"{name} {_number(low)} to {_number(high)}"
        for name, (low, high) in fit.valid.items()
        if name not in CONDITIONS
    )


def _number(size: float) -> str:
    return f"{size:,.0f}" if size >= 1.0 or size == 0.0 else f"{size:.2g}"


def _mark(name: str, word: str) -> str:
    return f"<!-- {name} {word}: written by `fleetcast calibrate report --markdown` -->"


def _fit_row(file: FitFile, fit: KernelFit, names: Sequence[str]) -> list[str]:
    judged = fit.held_out
    sigma = [percent(math.hypot(fit.residual[name], fit.doubt.get(name, 0.0))) for name in names]
    return [
        file.operator,
        fit.key,
        f"{fit.points:,}",
        f"{judged.points:,}",
        percent(judged.median),
        percent(judged.p90),
        percent(judged.bias, sign=True),
        f"{judged.coverage * 100:.0f} %",
        *sigma,
        meets(file, judged),
    ]


def _error_row(one: Errors) -> list[str]:
    return [
        one.operator,
        one.key,
        one.origin,
        f"{one.points:,}",
        percent(one.median),
        percent(one.p90),
        percent(one.bias, sign=True),
        f"{one.coverage * 100:.0f} %",
        "" if math.isnan(one.rank) else f"{one.rank:.3f}",
    ]


def _ordered(found: Iterable[Errors]) -> list[Errors]:
    return sorted(found, key=lambda one: (OPERATORS.index(one.operator), one.key, one.origin))


def _sources(files: list[FitFile]) -> list[str]:
    """Who measured what, when it was fitted, and the grade."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for file in files:
        for fit in file.fit:
            names = said.setdefault((fit.source.grade, fit.source.text, file.date.isoformat()), [])
            names.append(f"{file.operator} {fit.key}")
    return [f"- {', '.join(names)}: {grade}, {text}; fitted {date}." for (grade, text, date), names in said.items()]


def _ranges(files: list[FitFile]) -> list[str]:
    """Sizes the fits are valid for."""
    said: dict[str, list[str]] = {}
    for file in files:
        for fit in file.fit:
            said.setdefault(sizes_text(fit), []).append(f"{file.operator} {fit.key}")
    return ["Valid for:", "", *(f"- {', '.join(names)}: {sizes}." for sizes, names in said.items())]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    right = ["---" if i < 2 or name in ("benchmark", "targets") else "---:" for i, name in enumerate(head)]
    return [f"| {' | '.join(cells)} |" for cells in (head, right, *rows)]
