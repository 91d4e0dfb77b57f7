"""The report of a training step on a terminal: what was asked, the answer, the reason, what to edit next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sim.metrics import plain
from sim.training.result import TrainingResult

SHARES = {
    "compute_fraction": "arithmetic",
    "memory_fraction": "memory",
    "launch_fraction": "launches",
    "network_fraction": "tensor-parallel network",
    "host_fraction": "host",
    "idle_fraction": "waiting",
}


def print_training_report(result: TrainingResult, out: Path | None) -> None:
    """Print a finished run to standard output."""
    for line in training_report_lines(result, out):
        click.echo(line)


def training_report_lines(result: TrainingResult, out: Path | None) -> list[str]:
    """The report, line by line."""
    summary, scenario = result.summary, result.scenario
    training, memory = scenario.training, summary["memory"]
    low, high = summary["error_bars"]["step_s"]
    chunks = training.schedule.keys.get("chunks")
    lines = [
        "",
        click.style(scenario.name, bold=True),
        f"  {summary['model']} on {summary['gpus']:,} x {summary['gpu']} ({summary['node']}):"
        f" TP{training.tensor_parallel_size} PP{training.pipeline_parallel_size} DP{summary['data_parallel_size']},"
        f" {training.schedule.name}{f' x {chunks}' if chunks else ''}, {training.sharding.name},"
        f" recompute {training.recompute.name}, {training.framework}",
        f"  {training.global_batch_size:,} sequences of {training.seq_length:,} tokens a step,"
        f" {summary['micro_batches']:,} micro-batches of {training.micro_batch_size} a rank",
        "",
        f"  {'step':<26}{plain(summary['step_s']):>14} s   90 % interval {plain(low)} to {plain(high)} s",
        f"  {'tokens':<26}{plain(summary['tokens_per_s']):>14} /s  {plain(summary['tokens_per_s_per_gpu'])} a GPU",
        f"  {'model arithmetic':<26}{summary['model_flop_per_s_per_gpu'] / 1e12:>14.1f} TFLOP/s a GPU,"
        f" MFU {summary['mfu']:.1%}, HFU {summary['hfu']:.1%}",
        f"  {'pipeline bubbles':<26}{summary['pipeline_bubble_fraction']:>14.1%}",
        f"  {'memory, fullest GPU':<26}{memory['peak_bytes'] / 1e9:>14.1f} GB of {memory['budget_bytes'] / 1e9:.1f} GB"
        f" ({'fits' if memory['fits'] else 'does not fit'}): {_owners(memory)}",
        f"  {'power':<26}{plain(summary['mean_power_w_per_gpu']):>14} W a GPU,"
        f" {plain(summary['energy_j_per_token'])} J a token",
    ]
    if summary["usd_per_billion_tokens"] is not None:
        lines.append(f"  {'cost':<26}{plain(summary['usd_per_billion_tokens']):>14} USD a billion tokens")
    lines += ["", f"  {_shares(summary)}", f"  {summary['bottleneck']}"]
    lines += [f"  note: {note}" for note in summary["notes"]]
    grades = ", ".join(f"{part} {grade}" for part, grade in summary["grades"].items())
    lines += [f"  grade: {summary['grade']} ({grades})", "", f"  {_next_step(out)}", ""]
    return lines


def _owners(memory: dict[str, Any]) -> str:
    """The largest owners at the peak."""
    return ", ".join(f"{name} {size / 1e9:.1f}" for name, size in list(memory["owners"].items())[:4])


def _shares(summary: dict[str, Any]) -> str:
    shares = summary["bound_by"]
    return ", ".join(f"{name} {shares[key]:.0%}" for key, name in SHARES.items() if shares[key] >= 0.005)


def _next_step(out: Path | None) -> str:
    if out is None:
        return "Next: --trace-out step.json.gz draws the timeline; --set training.pipeline_parallel_size=... asks again."
    return f"Wrote {out}: summary.json, tasks.parquet, memory.parquet."
