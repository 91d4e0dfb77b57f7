"""The report of a training step on a terminal: what was asked, the answer, the reason, what to edit next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from app.clock_figures import clocks_line
from app.energy_lines import energy_lines
from app.offload_step import offload_lines
from sim.metrics import plain
from sim.training.clock_account import NOBODY
from sim.training.result import TrainingResult
from sim.training_scenario import TrainingScenario

SHARES = {
    "compute_fraction": "arithmetic",
    "memory_fraction": "memory",
    "launch_fraction": "launches",
    "network_fraction": "tensor-parallel network",
    "host_fraction": "host",
    "idle_fraction": "waiting",
}


HEADLINE = (
    "step_s",
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "mfu",
    "memory.peak_bytes",
    "pipeline_bubble_fraction",
    "energy_j_per_token",
    "mean_power_w_per_gpu",
    "usd_per_billion_tokens",
)


def print_training_report(result: TrainingResult, out: Path | None) -> None:
    """Print a finished run to standard output."""
    for line in training_report_lines(result, out):
        click.echo(line)


def training_report_lines(result: TrainingResult, out: Path | None) -> list[str]:
    """The report, line by line."""
    summary, scenario = result.summary, result.scenario
    memory = summary["memory"]
    low, high = summary["interval_90"]["step_s"]
    lines = [
        "",
        click.style(scenario.name, bold=True),
        *(f"  {line}" for line in asked_lines(scenario, summary)),
        "",
        f"  {'step':<26}{plain(summary['step_s']):>14} s   90 % interval {plain(low)} to {plain(high)} s",
        f"  {'tokens':<26}{plain(summary['tokens_per_s']):>14} /s  {plain(summary['tokens_per_s_per_gpu'])} a GPU",
        f"  {'model arithmetic':<26}{summary['model_flop_per_s_per_gpu'] / 1e12:>14.1f} TFLOP/s a GPU,"
        f" MFU {summary['mfu']:.1%}, HFU {summary['hfu']:.1%}",
        f"  {'pipeline bubbles':<26}{summary['pipeline_bubble_fraction']:>14.1%}",
        f"  {'memory, fullest GPU':<26}{memory['peak_bytes'] / 1e9:>14.1f} GB of {memory['budget_bytes'] / 1e9:.1f} GB"
        f" ({'fits' if memory['fits'] else 'does not fit'}): {_owners(memory)}",
        f"  {'power':<26}{plain(summary['mean_power_w_per_gpu']):>14} W a GPU, whose limit or lock holds the clock at"
        f" {summary['clock_fraction']:.0%} of boost;"
        f" {plain(summary['energy_j_per_token'])} J a token",
    ]
    lines += [f"  {line}" for line in offload_lines(summary)]
    lines.append(f"  {'at the wall':<26}{swing_line(summary['power'])}")
    if (clocks := summary["power"]["stage_clocks"])["name"] != NOBODY:
        lines.append(f"  {clocks_line(clocks)}")
    if summary["usd_per_billion_tokens"] is not None:
        lines.append(f"  {'cost':<26}{plain(summary['usd_per_billion_tokens']):>14} USD a billion tokens")
    lines += ["", *(f"  {line}" for line in energy_lines(summary))]
    lines += ["", f"  {_shares(summary)}", f"  {summary['bottleneck']}"]
    lines += [f"  note: {note}" for note in summary["notes"]]
    grades = ", ".join(f"{part} {grade}" for part, grade in summary["grades"].items())
    lines += [f"  grade: {summary['grade']} ({grades})", "", f"  {_next_step(out)}", ""]
    return lines


def asked_lines(scenario: TrainingScenario, summary: dict[str, Any]) -> tuple[str, str]:
    """What was asked: the plan, and the batch."""
    training = scenario.training
    chunks = training.schedule.keys.get("chunks")
    sizes = {"TP": training.tensor_parallel_size, "PP": training.pipeline_parallel_size,
             "DP": summary["data_parallel_size"], "CP": training.context_parallel_size,
             "EP": training.expert_parallel_size}  # fmt: skip
    kept = f"sharding {training.sharding.name}, recompute {training.recompute.name}"
    if scenario.offload is not None:
        kept = f"offload {scenario.offload.policy.name}, recompute {summary['offload']['recompute']}"
    layout = " ".join(f"{name}{size}" for name, size in sizes.items() if size > 1 or name in ("TP", "PP", "DP"))
    return (
        f"{summary['model']} on {summary['gpus']:,} x {summary['gpu']} ({summary['node']}): {layout},"
        f" {training.schedule.name}{f' x {chunks}' if chunks else ''}, {kept}, {training.framework}",
        f"{training.global_batch_size:,} sequences of {training.seq_length:,} tokens a step,"
        f" {summary['micro_batches']:,} micro-batches of {training.micro_batch_size} a rank",
    )


def swing_line(power: dict[str, Any]) -> str:
    """How a step's power swings, for a reader who feeds the cluster."""
    wall, up, down = power["wall_w"], power["ramp_up_w_per_s"], power["ramp_down_w_per_s"]
    return (
        f"{plain(wall['mean'] / 1e3):>14} kW, in a step from {plain(wall['trough'] / 1e3)} to"
        f" {plain(wall['peak'] / 1e3)}; read every second, up {plain(up['over_1_s'] / 1e3)} and down"
        f" {plain(down['over_1_s'] / 1e3)} kW/s; swings most at {plain(power['dominant_hz'])} Hz"
    )


def _owners(memory: dict[str, Any]) -> str:
    """The largest owners at the peak."""
    return ", ".join(f"{name} {size / 1e9:.1f}" for name, size in list(memory["owners"].items())[:4])


def _shares(summary: dict[str, Any]) -> str:
    shares = summary["bound_by"]
    return ", ".join(f"{name} {shares[key]:.0%}" for key, name in SHARES.items() if shares[key] >= 0.005)


def _next_step(out: Path | None) -> str:
    if out is None:
        return "next: --out DIR keeps frames and a report with pictures; --set training.micro_batch_size=2 asks again"
    return f"written to {out}: open report.html; --trace-out step.json.gz draws a timeline for ui.perfetto.dev"
