"""Writes fitted parameters as the TOML that `hardware_models.fits` reads: same fits, same bytes."""

from __future__ import annotations

import json
from pathlib import Path

from hardware_models.fits import FitFile, KernelFit

DIGITS = 6  # significant, of every float


def write_fit_file(file: FitFile, folder: Path) -> Path:
    """Write `folder`/DEVICE/OPERATOR.toml, replacing one that is there; returns its path.

    folder: `hardware_models.fits.FOLDER` for the calibrations that are part of the project.
    """
    path = Path(folder) / file.device / f"{file.operator}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = [
        f"device = {_text(file.device)}",
        f"operator = {_text(file.operator)}",
        f"date = {file.date.isoformat()}",
    ]
    path.write_text("\n".join([*head, *(_section(fit) for fit in file.fit)]) + "\n")
    return path


def _section(fit: KernelFit) -> str:
    lines = ["", "[[fit]]", f"key = {_text(fit.key)}", f"points = {fit.points}"]
    lines.append(f"source = {{ grade = {_text(fit.source.grade)}, text = {_text(fit.source.text)} }}")
    judged = fit.held_out.model_dump()
    lines.append("held_out = { " + ", ".join(f"{name} = {_number(value)}" for name, value in judged.items()) + " }")
    lines.append(f"residual = {_table(fit.residual)}")
    lines.append(f"doubt = {_table(fit.doubt)}")
    rows = [", ".join(_number(value) for value in row) for row in fit.covariance]
    lines += ["covariance = [", *(f"  [{row}]," for row in rows), "]"]
    lines += ["", "[fit.parameters]", *(f"{_key(name)} = {_number(value)}" for name, value in fit.parameters.items())]
    ranges = (f"{_key(name)} = [{_number(low)}, {_number(high)}]" for name, (low, high) in fit.valid.items())
    return "\n".join([*lines, "", "[fit.valid]", *ranges])


def _table(values: dict[str, float]) -> str:
    if not values:
        return "{}"
    return "{ " + ", ".join(f"{_key(name)} = {_number(value)}" for name, value in values.items()) + " }"


def _number(value: float) -> str:
    """An integer as it is, a float to DIGITS significant digits, always readable as a float again."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.{DIGITS}g}"
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # TOML's basic strings escape as JSON's do


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _text(name)
