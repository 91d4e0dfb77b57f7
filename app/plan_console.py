"""Plans on a terminal: what was asked, the answer, how sure it is, and why everything else is not the answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from sim.metrics import plain
from sim.plan.judge import LIMITS
from sim.plan.serving import Plan, ladder
from sim.plan.sustainable import Sustainable
from sim.plan.table import plan_rows
from sim.plan.words import limit_words, verdict_words
from sim.scenario import Scenario, SloSection

SHOWN = 12  # candidates in the table
WHY = 150  # characters of a reason
FEW = 5  # candidates shown where none was simulated
BEST = {"cost": "cheapest", "gpus": "fewest GPUs", "energy": "thriftiest"}


def plan_lines(plan: Plan) -> list[str]:
    """The report of a deployment, line by line."""
    lines = [
        "",
        click.style(f"{plan.scenario.name}: {BEST[plan.minimize]} for {plain(plan.rate_per_s)} requests/s", bold=True),
    ]
    lines += [
        f"  {plan.scenario.model.config} ({plan.scenario.model.weight_dtype}), {plan.requests:,} requests, seed"
        f" {plan.scenario.seed}; asked: {slo_words(plan.scenario.slo)}",
        "",
        *_answer(plan),
        "",
        *(_table(plan_rows(plan)) if plan.outcome.simulations else []),
        "",
    ]
    lines += [f"  note: {note}" for note in (*_proof(plan), *plan.notes, *plan.prices.sources())]
    return [*lines, ""]


def _answer(plan: Plan) -> list[str]:
    winner, trial = plan.winner, plan.trial
    if winner is None or trial is None or plan.best is None:
        return _nearest(plan)
    row, serving = plan_rows(plan)[0], plan.best.serving
    usd = row["usd_per_h"]
    price = "no price" if usd is None else f"{usd:,.2f} USD/h"
    lines = [
        f"  {click.style('answer', fg='green')}: {row['nodes']:,} x {row['node']} ({row['gpus']:,} GPUs), {price}:"
        f" {serving.replicas:,} replica{'s' if serving.replicas > 1 else ''} of TP{row['tensor_parallel_size']}"
        f" PP{row['pipeline_parallel_size']}, {serving.scheduler.name}, {plan.best.model.weight_dtype} weights,"
        f" budget {serving.max_num_batched_tokens:,}",
        f"  {verdict_words(trial.evidence, plan.scenario.slo.percentile)}",
    ]
    if row["mean_power_w"] is not None:
        lines.append(
            f"  GPUs draw {row['mean_power_w'] / 1e3:,.3g} kW on average: {row['energy_usd_per_day']:,.2f} USD of"
            f" electricity a day; times are {row['grade']}"
        )
    if plan.confirmations:
        met = sum(verdict.met for _, verdict in plan.confirmations)
        lines.append(f"  with other seeds: {met} of {len(plan.confirmations)} keep the SLO as well")
    return lines


def _nearest(plan: Plan) -> list[str]:
    lines = [f"  {click.style('no answer', fg='red')}: nothing in the space keeps the SLO"]
    nearest = plan.nearest
    trial = nearest.nearest if nearest is not None else None
    if nearest is None or trial is None:
        reasons = Counter(_kind(c.lost) for c in plan.outcome.candidates)
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        shown = [f"  {c.ladder.name}: {c.lost[:WHY]}" for c in plan.outcome.candidates[:FEW]]
        return [*lines, f"  no candidate was worth a simulation: {why}", *shown]
    lines.append(f"  nearest: {nearest.ladder.name}, {trial.reason}")
    if trial.evidence.summary:
        lines.append(f"  what held it back: {trial.evidence.summary['bottleneck']}")
    limits = trial.evidence.limits
    worst = max(limits, key=lambda limit: limit.ratio, default=None)
    if worst is not None:
        lines.append(
            f"  what would help: {remedy(worst.key)}; or more than {ladder(nearest).max_gpus} GPUs (--max-gpus)"
        )
    return lines


def remedy(key: str) -> str:
    """Options that ease a limit."""
    return {
        "ttft_s": "faster prompts (--tp, --weight-dtypes fp8), or a larger budget (--batched-tokens)",
        "tbt_s": "shorter steps (--batched-tokens 512,1024), or --schedulers chunked_prefill",
        "tpot_s": "faster steps (--tp, --weight-dtypes fp8), or a smaller budget (--batched-tokens)",
        "e2e_s": "faster steps (--tp, --weight-dtypes fp8)",
    }[key]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    seen = [row for row in rows if row["status"] != "impossible"]
    width = max([len(row["candidate"]) for row in seen[:SHOWN]], default=9)
    lines = [f"  {'candidate':<{width}} {'nodes':>6} {'GPUs':>6} {'USD/h':>9}  why"]
    for row in seen[:SHOWN]:
        usd = "-" if row["usd_per_h"] is None else f"{row['usd_per_h']:,.2f}"
        why = row["reason"] if len(row["reason"]) <= WHY else f"{row['reason'][: WHY - 3]}..."
        lines.append(f"  {row['candidate']:<{width}} {row['nodes']:>6,} {row['gpus']:>6,} {usd:>9}  {why}")
    rest = Counter(row["status"] for row in seen[SHOWN:])
    words = {"misses": "miss the SLO", "dearer": "lose by price without a simulation", "meets": "do, but are worse"}
    parts = [f"{count} {words[status]}" for status, count in rest.most_common()]
    impossible = Counter(_kind(row["reason"]) for row in rows if row["status"] == "impossible")
    parts += [f"{count} {kind}" for kind, count in impossible.most_common()]
    return [*lines, *([f"  and {'; '.join(parts)} (all with --json or --out)"] if parts else [])]


def _kind(reason: str) -> str:
    if "does not fit" in reason:
        return "do not fit in memory"
    return "are proved too slow" if reason.startswith("proved") else "are impossible"


def _proof(plan: Plan) -> list[str]:
    outcome = plan.outcome
    total = len(outcome.candidates)
    if plan.winner is None:
        text = f"{total} candidates, {outcome.simulations} simulations; judged: {plan.criterion}"
        return [text]
    rests = (
        "every number of nodes that might do for less was simulated or proved too small"
        if not outcome.untried
        else f"{outcome.untried} numbers of nodes were not simulated, since more of the same missed the SLO"
        " (--exhaustive simulates them)"
    )
    return [f"best of {total} candidates by {outcome.simulations} simulations: {rests}; judged: {plan.criterion}"]


def capacity_lines(scenario: Scenario, found: Sustainable) -> list[str]:
    """The report of a highest rate, line by line."""
    serving = scenario.serving
    lines = [
        "",
        click.style(f"{scenario.name}: highest rate that keeps the SLO", bold=True),
        f"  {scenario.model.config} ({scenario.model.weight_dtype}) on {scenario.cluster.nodes:,} x"
        f" {scenario.cluster.node}: {serving.replicas:,} x TP{serving.tensor_parallel_size}"
        f" PP{serving.pipeline_parallel_size}, {serving.scheduler.name}",
        f"  asked: {slo_words(scenario.slo)}; judged: {found.criterion}",
        "",
    ]
    if not found.found:
        lines.append(f"  {click.style('no answer', fg='red')}: {found.notes[-1]}")
    else:
        lines += _rate_lines(found)
    verdict = found.at_limit
    if verdict is not None and verdict.limits:
        at = "at the highest rate of the first seed" if found.found else "there"
        lines.append(f"  {at}: " + "; ".join(limit_words(limit, scenario.slo.percentile) for limit in verdict.limits))
    if verdict is not None and verdict.summary:
        lines.append(f"  {verdict.summary['bottleneck']}")
    if not found.found and verdict is not None and verdict.limits:
        worst = max(verdict.limits, key=lambda limit: limit.ratio)
        lines.append(f"  what would help: {remedy(worst.key)}")
    lines.append("")
    lines.append(
        f"  note: {found.simulations} simulations, {found.ended_early} of them ended early; {found.proved} rates"
        " refused by proof alone"
    )
    lines += [f"  note: {note}" for note in found.notes if found.found]
    return [*lines, ""]


def _rate_lines(found: Sustainable) -> list[str]:
    low, high = found.interval_per_s
    count = len(found.seeds)
    more = "" if found.bounded else " or more"
    lines = [f"  {click.style('answer', fg='green')}: {plain(found.rate_per_s)} requests/s{more}"]
    if count > 1 and found.bounded:
        lines[0] += f" ({found.confidence:.0%} interval over {count} seeds: {plain(low)} to {plain(high)})"
    if found.safe_per_s is not None:
        safe = plain(found.safe_per_s) if found.safe_per_s else "no rate"
        hopeful = "no bound" if found.hopeful_per_s is None else plain(found.hopeful_per_s)
        lines.append(f"  with the calibration's 90 % error bars: between {safe} (safe) and {hopeful} requests/s")
    if found.proved_per_s is not None:
        lines.append(
            f"  proved from the prices of steps: no more than {plain(found.proved_per_s)} requests/s of the first seed"
        )
    return lines


def slo_words(slo: SloSection) -> str:
    """`p99 TTFT <= 2,000 ms and longest TBT <= 100 ms`."""
    parts = [f"{LIMITS[key]} <= {limit * 1e3:,.0f} ms" for key in LIMITS if (limit := getattr(slo, key)) is not None]
    return f"p{slo.percentile:g} " + " and ".join(parts) if parts else "a queue that settles (no limits in [slo])"
