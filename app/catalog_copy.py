"""`fleetcast catalog nodes NAME --copy-to FILE --set PART.KEY=2x`: a copy of a catalog entry with figures changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from app.catalog_view import spec_of
from hardware_models.errors import FleetcastError
from hardware_models.variation import Change, Variation, check_name, parse_change, vary, vary_node
from hardware_models.variation_file import spec_toml, write_variation

COPIED = ("gpus", "links", "nics", "nodes")  # kinds that a scenario can name a file of


def copy_entry(kind: str | None, name: str | None, to: Path | None, overrides: Sequence[str]) -> None:
    """Write the copy and say what it holds; raises FleetcastError."""
    if to is None:
        raise FleetcastError("--set: changes a copy; say where it goes with --copy-to FILE.toml")
    if kind is not None and kind not in COPIED and f"{kind}s" in COPIED:
        kind += "s"
    if kind not in COPIED or name is None:
        raise FleetcastError(f"--copy-to: copies an entry of {', '.join(COPIED)}; give its kind and name")
    if to.suffix != ".toml":
        raise FleetcastError(f"--copy-to {to}: give the file of the copy, ending in .toml; its name is the copy's")
    copy = check_name(to.stem)
    changes = [parse_change(text) for text in overrides]
    for line in _node(name, copy, to, changes) if kind == "nodes" else _part(kind, name, copy, to, changes):
        click.echo(line)


def _node(name: str, copy: str, to: Path, changes: list[Change]) -> list[str]:
    variation = vary_node(name, copy, changes)
    if to.exists():
        raise FleetcastError(f"--copy-to {to}: is there already; remove it or give another name")
    file = write_variation(variation, to.parent)
    return [
        f"written: {file}{_parts_text(variation, file)}",
        f"use it: fleetcast run SCENARIO --set cluster.node={file.resolve()}",
        "prices come from the calibration of what it varies: assumed, with wider error bars",
    ]


def _parts_text(variation: Variation, file: Path) -> str:
    return f", and {', '.join(sorted(variation.parts))} in {file.with_suffix('')}" if variation.parts else ""


def _part(kind: str, name: str, copy: str, to: Path, changes: list[Change]) -> list[str]:
    wrong = next((change for change in changes if change.part), None)
    if wrong is not None:
        raise FleetcastError(f"--set {wrong}: of {kind}, give the key alone, as in {wrong.key}=2x")
    spec = vary(spec_of(kind, name), copy, changes)
    if to.exists():
        raise FleetcastError(f"--copy-to {to}: is there already; remove it or give another name")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(spec_toml(spec), encoding="utf-8")
    except OSError as error:
        raise FleetcastError(f"{to}: cannot be written ({error.strerror}); choose another place") from None
    return [f"written: {to}", f"look at it: fleetcast catalog {kind} {to}"]
