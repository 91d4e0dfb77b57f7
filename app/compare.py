"""Runs side by side: what was set differently, what came out differently, and where the time moved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from app.console import interval_of
from app.training_reason import TRAINING_BOUND_BY, training_reason
from hardware_models.errors import FleetcastError
from sim.metrics import METRICS, OFFLOAD_METRICS, SUMMARY_METRICS, TRAINING_METRICS, Metric
from sim.scenario_file import read_toml, resolve_paths
from sim.stored_run import read_summary
from sim.training.shared_errors import KEY, change_interval, shared_factors

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
    "decode_stall_fraction",
    "kv_peak_fraction",
    "preemptions",
    "energy_j_per_output_token",
    "mean_power_w_per_gpu",
    "energy.wh_per_request",
    "energy.gco2e_per_request",
    "energy.usd_per_million_output_tokens",
)

WHOLE = tuple(  # of a whole training, where its tokens are given
    f"time_to_train.{key}" for key in ("days", "gpu_hours", "energy.site_kwh", "energy.kgco2e", "energy.usd")
)
BELOW = (  # of a step whose states, weights or activations live below the GPU's memory
    "offload.tiers.host.peak_bytes",
    "offload.tiers.drives.peak_bytes",
    *(f"offload.busy_fraction.{stream}" for stream in ("compute", "h2d", "d2h", "ssd", "cpu")),
    "offload.largest.parameters",
)
BOUND_BY = tuple(f"{name}_fraction" for name in ("compute", "memory", "network", "host", "idle", "kv_queue"))
SERVING = "serving"  # kind of a run whose summary names none
OFFLOAD = "offload"
OFFLOAD_SHOWN = (
    "output_throughput",
    "decode_throughput",
    "duration_s",
    "prefill_s",
    "decode_step_s",
    "memory.gpu.peak_bytes",
    "memory.host.peak_bytes",
    "memory.storage.peak_bytes",
    "moved_bytes.h2d",
    "moved_bytes.d2h",
    "moved_bytes.read",
    "moved_bytes.write",
    "usd_per_million_output_tokens",
)
OFFLOAD_BOUND_BY = tuple(f"{name}_fraction" for name in ("compute", "host", "storage", "copies", "idle"))


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run as it lies on disk."""

    name: str
    summary: dict[str, Any]
    settings: dict[str, Any]  # dotted key -> value

    @property
    def kind(self) -> str:
        """Of what the run is: serving, training or offload."""
        return str(self.summary.get("kind", SERVING))

    @property
    def metrics(self) -> list[Metric]:
        """What is set side by side, in order."""
        if self.kind == SERVING:
            row = [key for key in METRICS if key.startswith("power.") and self.summary.get("power")]
            return [METRICS[key] for key in (*SHOWN, *row)]
        if self.kind == OFFLOAD:
            return [OFFLOAD_METRICS[key] for key in OFFLOAD_SHOWN]
        whole = [SUMMARY_METRICS[key] for key in WHOLE if "time_to_train" in self.summary]
        below = [SUMMARY_METRICS[key] for key in BELOW if self.summary.get("offload")]
        return [*TRAINING_METRICS.values(), *below, *whole]

    @property
    def bound_by(self) -> tuple[str, ...]:
        """Shares of the time, by their keys."""
        return _bounds(self.kind)

    @classmethod
    def read(cls, folder: Path) -> RunFolder:
        """Raises FleetcastError for a folder that `fleetcast run --out` did not write."""
        summary = read_summary(folder)
        if not _is_summary(summary):
            raise FleetcastError(
                f"{folder / 'summary.json'}: is no summary of this version; run the scenario again with --out {folder}"
            )
        tables = read_toml(folder / "scenario.toml")
        resolve_paths(tables, folder)
        return cls(folder.name, summary, _flat(tables))


def _bounds(kind: str) -> tuple[str, ...]:
    """Shares of the time that runs of a kind have."""
    return {SERVING: BOUND_BY, OFFLOAD: OFFLOAD_BOUND_BY}.get(kind, TRAINING_BOUND_BY)


def print_comparison(folders: tuple[Path, ...]) -> None:
    """Print runs against the first one."""
    if len(folders) < 2:
        raise FleetcastError("compare: give at least two run folders, the baseline first")
    runs = [RunFolder.read(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        if run.kind != runs[0].kind:
            raise FleetcastError(
                f"compare: {folders[0]} is a run of {runs[0].kind}, {folder} one of {run.kind}; give runs of one kind"
            )
    for line in comparison_lines(runs):
        click.echo(line)


def comparison_lines(runs: list[RunFolder]) -> list[str]:
    """Settings that differ, then each metric with its change against the first run, then the reason."""
    base, titles = runs[0], _titles(runs)
    differing = different_settings(runs)
    metrics = base.metrics
    width = max(map(len, (*differing, *(metric.name for metric in metrics)))) + 2
    lines = ["", "  " + " " * width + "".join(f"{title[:24]:>28}" for title in titles)]
    for key, values in differing.items():
        lines.append(f"  {key:<{width}}" + "".join(f"{_short(value):>28}" for value in values))
    lines.append("")
    for metric in metrics:
        numbers = [metric.value(run.summary) for run in runs]
        cells = [f"{metric.text(numbers[0]):>28}"]
        cells += [f"{metric.text(number)} {_change(numbers[0], number):>9}".rjust(28) for number in numbers[1:]]
        lines.append(f"  {metric.name:<{width}}" + "".join(cells))
    lines.append("")
    for key in base.bound_by:
        shares = [run.summary["bound_by"][key] for run in runs]
        name = "time " + key.removesuffix("_fraction").replace("_", " ")
        lines.append(f"  {name:<{width}}" + "".join(f"{'-' if s is None else format(s, '.1%'):>28}" for s in shares))
    lines.append("")
    for title, run in zip(titles[1:], runs[1:], strict=True):
        lines.append(f"  {title}: {reason(base, run)}")
        if sure := paired_sentence(base.summary, run.summary):
            lines.append(f"  {title}: {sure}")
    return [*lines, ""]


def different_settings(runs: list[RunFolder]) -> dict[str, list[Any]]:
    """Dotted key to its value in each run, for keys that not all have alike; None: not set.

    Figures of the user's own hardware are among them, as hardware.gpu.memory_bytes: a file can change under its name.
    """
    settings = [run.settings | _flat(run.summary.get("hardware", {}), "hardware.") for run in runs]
    keys = sorted(set().union(*settings) - {"name"})
    values = {key: [row.get(key) for row in settings] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def reason(base: RunFolder, run: RunFolder) -> str:
    """Of serving: how long running sequences waited for others' prompts, which share of the time moved most, the
    bottleneck; of training: where the seconds went.
    """
    if run.kind == OFFLOAD:
        return _moved_share(base, run)
    if run.kind != SERVING:
        return training_reason(base.summary, run.summary)
    return _stall_change(base, run) + _moved_share(base, run)


def _stall_change(base: RunFolder, run: RunFolder) -> str:
    before, after = (r.summary.get("decode_stall_fraction") for r in (base, run))
    if before is None or after is None or abs(after - before) < 0.02:
        return ""
    return (
        f"between tokens, running sequences wait {after:.0%} of the time for steps they have no part in"
        f" (prompts run alone, KV copies), against {before:.0%}; "
    )


def _moved_share(base: RunFolder, run: RunFolder) -> str:
    before, after = base.summary["bound_by"], run.summary["bound_by"]
    if any(shares[key] is None for shares in (before, after) for key in run.bound_by):
        return f"nothing to set against each other: one of the two served no request. {run.summary['bottleneck']}"
    moved = {key: after[key] - before[key] for key in run.bound_by}
    key = max(moved, key=lambda k: abs(moved[k]))
    if abs(moved[key]) < 0.02:
        return (
            f"no share of the time moved by more than {abs(moved[key]) * 100:.1f} points. {run.summary['bottleneck']}"
        )
    name = key.removesuffix("_fraction").replace("_", " ")
    direction = "more" if moved[key] > 0 else "less"
    return f"{abs(moved[key]) * 100:.1f} points {direction} of the time is {name}. {run.summary['bottleneck']}"


def beyond_error_bars(before: dict[str, Any], after: dict[str, Any], key: str) -> bool | None:
    """Is a metric's change surely one? Of steps of training by the change's own 90 % interval, else by whether those of
    the two runs lie apart; None where one of them has no interval.
    """
    bars = [interval_of(summary, key) for summary in (before, after)]
    if bars[0] is None or bars[1] is None:
        return None
    change = paired_interval(before, after, key)
    if change is not None:
        return not change[0] <= 1.0 <= change[1]
    return bars[0][1] < bars[1][0] or bars[1][1] < bars[0][0]


def paired_interval(before: dict[str, Any], after: dict[str, Any], key: str) -> tuple[float, float] | None:
    """The central 90 % of a metric's ratio, after over before, errors that both share cancelled; None where the two
    share none, or it has no interval.
    """
    if KEY not in before or not shared_factors(before, after) or interval_of(after, key) is None:
        return None
    values = [SUMMARY_METRICS[key].value(summary) for summary in (before, after)]
    return change_interval(before, after, values[1] / values[0]) if all(value > 0 for value in values) else None


def paired_sentence(before: dict[str, Any], after: dict[str, Any]) -> str:
    """How sure the change of the step is, and what cancels in it; empty where nothing does."""
    ends = paired_interval(before, after, "step_s")
    if ends is None:
        return ""
    low, high = (f"{(end - 1.0) * 100:+.1f}%" for end in ends)
    shared = ", ".join(shared_factors(before, after))
    return f"the step changes by {low} to {high} (90 %): errors that both share cancel ({shared})"


def change_text(before: float, after: float) -> str:
    """+3.1 %, x12, new; nothing where one of the two is unknown or nothing changed."""
    return _change(before, after).strip("()").replace("%", " %")


def _is_summary(summary: Any) -> bool:
    """Has it the parts that a comparison cannot do without?"""
    if not isinstance(summary, dict) or not isinstance(summary.get("bottleneck"), str):
        return False
    shares = summary.get("bound_by")
    own = summary.get("hardware", {})  # absent from results of earlier versions
    wanted = _bounds(summary.get("kind", SERVING))
    return isinstance(own, dict) and isinstance(shares, dict) and set(wanted) <= set(shares)


def _titles(runs: list[RunFolder]) -> list[str]:
    """Folder names, numbered where two are the same."""
    names = [run.name for run in runs]
    return [f"{i}: {name}" if names.count(name) > 1 else name for i, name in enumerate(names, start=1)]


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
    ratio = after / before
    return f"({(ratio - 1) * 100:+.1f}%)" if ratio < 10 else f"(x{ratio:.3g})"
