"""A training plan on a terminal: the answer, how sure it is, the next best, the front, why the rest lose, the flags."""

from __future__ import annotations

from typing import Any

import click

from sim.metrics import plain
from sim.plan.training.search import FRONT_BYTES, FRONT_STEP

SHOWN = 8  # reasons why plans lose
FLAGS_WIDTH = 112  # characters of a line of flags


def training_plan_lines(found: dict[str, Any]) -> list[str]:
    """The report, line by line, from what plan.json holds."""
    lines = ["", click.style(f"{found['name']}: the fastest plan", bold=True), f"  {asked_line(found)}", ""]
    lines += [*_answer(found), "", *_best(found), "", *_front(found), "", *_losers(found), "", *_flags(found), ""]
    lines += [f"  note: {note}" for note in training_plan_notes(found)]
    return [*lines, ""]


def asked_line(found: dict[str, Any]) -> str:
    """What was asked."""
    summary, training = found["winner"], found["scenario"]["training"]
    return (
        f"{summary['model']} on {summary['cluster_gpus']:,} x {summary['gpu']} ({summary['node']}),"
        f" {training['global_batch_size']:,} sequences of {training['seq_length']:,} tokens a step,"
        f" {training['framework']}"
    )


def _answer(found: dict[str, Any]) -> list[str]:
    best, summary, memory = found["best"][0], found["winner"], found["winner"]["memory"]
    low, high = best["step_s_90"]
    said = versus(found)
    owners = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in list(memory["owners"].items())[:3])
    exposed = summary["exposed"]
    return [
        f"  {click.style('answer', fg='green')}: {best['plan']}" + (f"; {', '.join(said)}" if said else ""),
        f"  {'step':<22}{plain(best['step_s']):>12} s   90 % interval {plain(low)} to {plain(high)} s;"
        f" MFU {summary['mfu']:.1%}, {plain(summary['tokens_per_s_per_gpu'])} tokens/s a GPU",
        f"  {'pipeline bubbles':<22}{summary['pipeline_bubble_fraction']:>12.1%}"
        f"     tensor-parallel exchanges {exposed['tensor_parallel_fraction']:.1%} of the step",
        f"  {'memory, fullest GPU':<22}{memory['peak_bytes'] / 1e9:>12.1f} GB  of {memory['budget_bytes'] / 1e9:.1f}:"
        f" {owners}",
        f"  {'power':<22}{plain(summary['mean_power_w_per_gpu']):>12} W   a GPU;"
        f" {plain(summary['energy_j_per_step'] / 1e6)} MJ a step",
        f"  {summary['bottleneck']}",
    ]


def versus(found: dict[str, Any]) -> list[str]:
    """How far the next best is behind the answer, and the plan that the scenario itself writes down."""
    said = []
    if len(found["best"]) > 1:
        more = found["best"][1]["ratio"] - 1
        said.append(f"the next takes {f'{more:.2%}' if more >= 5e-5 else 'less than 0.01%'} longer")
    if found["own"] is not None and found["own"]["plan"] != found["best"][0]["plan"]:
        own = f"the scenario's own plan {found['own']['ratio'] - 1:.1%} longer"
        said.append(own if found["own_fits"] else f"{own}, and does not fit")
    elif found["own"] is not None:
        said.append("it is the scenario's own plan")
    return said


def _best(found: dict[str, Any]) -> list[str]:
    rows = found["best"]
    width = max(len(row["plan"]) for row in (*rows, *found["front"]))
    lines = [f"  {'plan':<{width}} {'step, s':>9} {'ratio':>7} {'MFU':>6} {'bubbles':>8} {'GB':>6} {'MJ':>7}  sure"]
    for row in rows:
        sure = "too close to call" if row["too_close"] else ""
        lines.append(
            f"  {row['plan']:<{width}} {row['step_s']:>9.4g} {row['ratio']:>7.4f} {row['mfu']:>6.1%}"
            f" {row['pipeline_bubble_fraction']:>8.1%} {row['peak_bytes'] / 1e9:>6.1f}"
            f" {row['energy_j_per_step'] / 1e6:>7.4g}  {sure}".rstrip()
        )
    return lines


def _front(found: dict[str, Any]) -> list[str]:
    rows = found["front"]
    if len(rows) < 2:
        return [f"  front: no plan of up to {FRONT_STEP:g} times the step needs {1 - FRONT_BYTES:.0%} less memory"]
    width = max(len(row["plan"]) for row in (*rows, *found["best"]))
    lines = ["  front, less memory or fewer GPUs for a longer step ('>=': as if nothing shared a link):"]
    for row in rows:
        exact = row["known_by"] == "simulated"
        lines.append(
            f"  {row['plan']:<{width}} {'' if exact else '>='}{row['step_s']:.4g} s, {row['peak_bytes'] / 1e9:.1f} GB,"
            f" {row['gpus']:,} GPUs"
        )
    return [*lines, f"  least energy of the best: {found['thriftiest']}"]


def _losers(found: dict[str, Any]) -> list[str]:
    lines = ["  why the others lose:"]
    for row in found["losers"][:SHOWN]:
        nearest = f"; nearest {row['nearest']} ({row['by']})" if row["nearest"] else ""
        lines.append(f"  {row['plans']:>8,} {row['why']}{nearest}")
    rest = sum(row["plans"] for row in found["losers"][SHOWN:])
    return [*lines, *([f"  {rest:>8,} for other reasons (all with --json)"] if rest else [])]


def _flags(found: dict[str, Any]) -> list[str]:
    lines, line = ["  flags of Megatron-LM:"], "   "
    for flag in found["megatron_flags"]:
        if len(line) + len(flag) > FLAGS_WIDTH:
            lines.append(f"{line} \\")
            line = "   "
        line += f" {flag}"
    return [*lines, line, *(f"    # {note}" for note in found["megatron_notes"])]


def training_plan_notes(found: dict[str, Any]) -> list[str]:
    """What was looked at, how sure the order is, what stayed as the scenario has it."""
    space = found["space"]
    close = sum(row["too_close"] for row in found["best"])
    notes = [
        f"{space['plans']:,} plans: {space['too_large']:,} do not fit, {space['impossible']:,} cannot be,"
        f" {space['simulated']:,} simulated; all others are proved slower than the best {len(found['best'])}"
    ]
    if close:
        notes.append(
            f"{close} of the best may be as fast as the first: errors that plans share cancel, each factor"
            " erring alike in all plans"
        )
    return [*notes, *found["notes"]]
