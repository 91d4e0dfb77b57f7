"""Runs side by side: what was set differently, what came out differently, and where the time moved."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hardware_models.errors import FleetcastError
from sim.metrics import METRICS
from sim.scenario_file import read_toml

SHOWN = (
    "request_throughput",
    "output_throughput",
    "request_goodput_per_s",
    "goodput_fraction",
    "ttft_s.p50",
    "ttft_s.p99",
    "tbt_s.p50",
    "tbt_s.p99",
    "max_tbt_s.p99",
    "tpot_s.p50",
    "e2e_s.p50",
    "e2e_s.p99",
    "queue_s.p99",
    "mfu",
    "mbu",
    "usd_per_million_output_tokens",
    "kv_peak_fraction",
    "preemptions",
)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run as it lies on disk."""

    name: str
    summary: dict[str, Any]
    settings: dict[str, Any]  # dotted key -> value

    @classmethod
    def read(cls, folder: Path) -> RunFolder:
        """Raises FleetcastError for a folder that `fleetcast run --out` did not write."""
        path = folder / "summary.json"
        try:
            summary = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise FleetcastError(f"{folder}: is no run folder (no summary.json); make one with run --out") from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise FleetcastError(f"{path}: is not valid JSON; run the scenario again with --out {folder}") from None
        return cls(folder.name, summary, _flat(read_toml(folder / "scenario.toml")))


def print_comparison(folders: tuple[Path, ...]) -> None:
    """Print runs against the first one."""
    if len(folders) < 2:
        raise FleetcastError("compare: give at least two run folders, the baseline first")
    for line in comparison_lines([RunFolder.read(folder) for folder in folders]):
        click.echo(line)


def comparison_lines(runs: list[RunFolder]) -> list[str]:
    """Settings that differ, then each metric with its change against the first run, then the reason."""
    base = runs[0]
    lines = ["", "  " + " " * 28 + "".join(f"{run.name[:24]:>26}" for run in runs)]
    for key in sorted(set().union(*(run.settings for run in runs)) - {"name"}):
        values = [run.settings.get(key) for run in runs]
        if any(value != values[0] for value in values):
            lines.append(f"  {key[:27]:<28}" + "".join(f"{_short(value):>26}" for value in values))
    lines.append("")
    for key in SHOWN:
        metric = METRICS[key]
        values = [metric.value(run.summary) for run in runs]
        cells = [f"{metric.text(values[0]):>26}"]
        cells += [f"{metric.text(value)} {_change(values[0], value):>8}".rjust(26) for value in values[1:]]
        lines.append(f"  {metric.name[:27]:<28}" + "".join(cells))
    lines.append("")
    for key in base.summary["bound_by"]:
        shares = [run.summary["bound_by"][key] for run in runs]
        name = "time " + key.removesuffix("_fraction").replace("_", " ")
        lines.append(f"  {name:<28}" + "".join(f"{'-' if s is None else format(s, '.1%'):>26}" for s in shares))
    lines += ["", *(f"  {run.name}: {reason(base, run)}" for run in runs[1:]), ""]
    return lines


def reason(base: RunFolder, run: RunFolder) -> str:
    """Which share of the time moved most between two runs, and the bottleneck now."""
    before, after = base.summary["bound_by"], run.summary["bound_by"]
    moved = {key: (after[key] or 0.0) - (before[key] or 0.0) for key in before}
    key = max(moved, key=lambda k: abs(moved[k]))
    name = key.removesuffix("_fraction").replace("_", " ")
    direction = "more" if moved[key] > 0 else "less"
    return f"{abs(moved[key]) * 100:.1f} points {direction} of the time is {name}. {run.summary['bottleneck']}"


def _flat(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 24 else "..." + text[-21:]


def _change(before: float, after: float) -> str:
    if math.isnan(before) or math.isnan(after):
        return ""
    if before == 0.0:
        return "" if after == 0.0 else "(new)"
    return f"({(after / before - 1) * 100:+.1f}%)"
