"""The report of offloaded inference on a terminal: what was asked, the answer, the reason, how full each tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sim.metrics import plain
from sim.offload.inference_result import OffloadedInferenceResult
from sim.offload.inference_scenario import OffloadedInferenceScenario

TIERS = {"gpu": "GPU memory", "host": "host memory", "storage": "drives"}
STREAMS = {"gpu": "GPU", "cpu": "CPU", "h2d": "to the GPU", "d2h": "from the GPU", "drives": "drives"}
ROUTES = {"h2d": "to the GPU", "d2h": "from the GPU", "read": "read from drives", "write": "written to drives"}
HEADLINE = (
    "output_throughput",
    "decode_throughput",
    "prefill_s",
    "decode_step_s",
    "memory.gpu.peak_bytes",
    "memory.host.peak_bytes",
    "memory.storage.peak_bytes",
    "usd_per_million_output_tokens",
)


def print_offload_report(result: OffloadedInferenceResult, out: Path | None) -> None:
    """Print a finished run to standard output."""
    for line in offload_report_lines(result, out):
        click.echo(line)


def offload_report_lines(result: OffloadedInferenceResult, out: Path | None) -> list[str]:
    """The report, line by line."""
    summary = result.summary
    low, high = summary["interval_90"]["output_throughput"]
    lines = [
        "",
        click.style(result.scenario.name, bold=True),
        *(f"  {line}" for line in asked_lines(result.scenario, summary)),
        "",
        f"  {'output':<26}{plain(summary['output_throughput']):>14} tokens/s   90 % interval {plain(low)} to"
        f" {plain(high)}",
        f"  {'prompts of a block':<26}{plain(summary['prefill_s']):>14} s",
    ]
    if summary["decode_step_s"] is not None:
        lines.append(f"  {'decoding step, mean':<26}{plain(summary['decode_step_s']):>14} s")
    lines.append(f"  {'whole job':<26}{plain(summary['duration_s']):>14} s, {blocks_text(summary)}")
    for tier, name in TIERS.items():
        one = summary["memory"][tier]
        if one["peak_bytes"]:
            lines.append(
                f"  {name:<26}{one['peak_bytes'] / 1e9:>14,.1f} GB of {one['budget_bytes'] / 1e9:,.1f} GB:"
                f" {owners_text(one)}"
            )
    if summary["usd_per_million_output_tokens"] is not None:
        lines.append(f"  {'cost':<26}{plain(summary['usd_per_million_output_tokens']):>14} USD a million tokens")
    lines += ["", f"  in use: {busy_text(summary)}", f"  {moved_text(summary)}", f"  {summary['bottleneck']}"]
    if "by_need" in summary:
        lines.append(f"  by need: {', '.join(f'{name} {count:,}' for name, count in summary['by_need'].items())}")
    lines += [f"  note: {note}" for note in summary["notes"]]
    grades = ", ".join(f"{part} {grade}" for part, grade in summary["grades"].items())
    lines.append(f"  grade: {summary['grade']} ({grades})")
    hint = f"report and frames: {out}" if out is not None else "add --out DIR for the report, or --trace-out FILE"
    return [*lines, "", f"  {hint}", ""]


def asked_lines(scenario: OffloadedInferenceScenario, summary: dict[str, Any]) -> tuple[str, str]:
    """What was asked: the job, and where the policy puts things."""
    workload, plan = scenario.workload, summary["plan"]
    shares = "; ".join(
        f"{name.replace('_', ' ')} {_places(plan[name])}" for name in ("weights", "kv_cache", "activations")
    )
    extra = [text for key, text in (("cpu_attention", "CPU attention"), ("compress_weights", "4-bit weights"),
                                    ("compress_cache", "4-bit KV cache")) if plan[key]]  # fmt: skip
    return (
        f"{summary['model']} on 1 x {summary['gpu']} ({summary['node']}): {summary['requests']:,} requests of"
        f" {workload.prompt_tokens:,} + {workload.output_tokens:,} tokens",
        f"{summary['policy']}, {plan['num_gpu_batches']} batches of {plan['gpu_batch_size']}: {shares}"
        + "".join(f", {text}" for text in extra),
    )


def blocks_text(summary: dict[str, Any]) -> str:
    """How many blocks of how many requests."""
    blocks = summary["blocks"]
    return f"{blocks:,} block{'s' if blocks > 1 else ''} of {summary['block_sequences']:,} requests"


def _places(shares: list[float]) -> str:
    named = [f"{share:.0%} {tier}" for share, tier in zip(shares, ("GPU", "host", "drives"), strict=True) if share]
    return " ".join(named)


def owners_text(memory: dict[str, Any]) -> str:
    """What a tier holds at its peak, largest first."""
    return ", ".join(f"{name.replace('_', ' ')} {size / 1e9:,.1f}" for name, size in memory["owners"].items())


def busy_text(summary: dict[str, Any]) -> str:
    """Share of the time that each stream runs something."""
    return ", ".join(f"{name} {summary['busy'][f'{key}_fraction']:.0%}" for key, name in STREAMS.items())


def moved_text(summary: dict[str, Any]) -> str:
    """Bytes of a block by where they went."""
    moved = summary["moved_bytes"]
    parts = ", ".join(f"{moved[key] / 1e9:,.0f} GB {name}" for key, name in ROUTES.items() if moved[key])
    return f"a block has {parts}" if parts else "a block moves nothing between tiers"
