"""The report of a sweep on a terminal: what was asked, the best point, how sure, what matters, what to trade."""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from sim.metrics import Metric, plain
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.scenario import Scenario
from sim.sweep.analysis import Analysis, bars, varies
from sim.sweep.axes import Range
from sim.sweep.columns import PER_USER, SWEEP_METRICS
from sim.sweep.definition import Sweep
from sim.sweep.point import FAILED, INFEASIBLE
from sim.sweep.sensitivity import level_text

FIGURES = (
    "output_tokens_per_s_per_gpu",
    PER_USER,
    "request_goodput_per_s",
    "goodput_fraction",
    "ttft_s.p99",
    "tpot_s.mean",
    "usd_per_million_output_tokens",
    "mfu",
    "kv_peak_fraction",
)
TRAINING_FIGURES = (
    "step_s",
    "tokens_per_s_per_gpu",
    "mfu",
    "memory.peak_bytes",
    "pipeline_bubble_fraction",
    "energy_j_per_token",
    "usd_per_billion_tokens",
)
OFFLOAD_FIGURES = (
    "output_throughput",
    "prefill_s",
    "decode_step_s",
    "memory.gpu.peak_bytes",
    "memory.host.peak_bytes",
    "memory.storage.peak_bytes",
    "usd_per_million_output_tokens",
)
FRONT_ROWS = 10  # of the trade-off shown
REASON_ROWS = 8


def key_figures(sweep: Sweep) -> tuple[str, ...]:
    """Metrics that reports show of a setting."""
    if sweep.model is OffloadedInferenceScenario:
        return OFFLOAD_FIGURES
    return FIGURES if sweep.model is Scenario else TRAINING_FIGURES


def asked_lines(sweep: Sweep, points: int, settings: int, excluded: int = 0, repeated: int = 0) -> list[str]:
    """What was asked."""
    seeds = len(sweep.seeds)
    how = {"grid": "grid", "list": "list", "random": "random draws", "lhs": "Latin hypercube"}[sweep.method]
    left = f"; constraints leave out {excluded:,} more" if excluded else ""
    again = f"; {repeated:,} drawn twice count once" if repeated else ""
    lines = [
        click.style(sweep.name, bold=True),
        f"  {count(points, 'point')}: {count(settings, 'setting')} ({how}) x {count(seeds, 'seed')}{left}{again}",
    ]
    width = max(len(axis.key) for axis in sweep.axes)
    for axis in sweep.axes:
        if isinstance(axis, Range):
            scale = ", log" if axis.log else ""
            text = f"{plain(axis.low)} to {plain(axis.high)}{scale}{', whole' if axis.integer else ''}"
        else:
            values = [level_text(value) for value in axis.levels()]
            text = ", ".join(values) if len(values) <= 8 else f"{values[0]} ... {values[-1]} ({len(values)} values)"
        lines.append(f"  {axis.key:<{width}}  {text}")
    given = "" if sweep.goal.given else " (no [goal] given)"
    limits = "".join(f", {limit.text()}" for limit in sweep.goal.limits)
    return [*lines, f"  asked: {sweep.goal.text()}{given}{limits}"]


def report_lines(analysis: Analysis, out: Path | None) -> list[str]:
    """The report, line by line."""
    sweep = analysis.sweep
    points = sum(analysis.statuses.values())
    lines = ["", *asked_lines(sweep, points, points // len(sweep.seeds)), ""]
    lines += _best_lines(analysis)
    lines += _effect_lines(analysis)
    lines += _front_lines(analysis)
    lines += reason_lines(analysis)
    return [*lines, "", f"  {_next_step(analysis, out)}", ""]


def setting_text(analysis: Analysis, setting: pd.Series) -> str:
    """`max_num_seqs = 64, rate_scale = 2` of the axes that vary."""
    keys = analysis.sweep.keys
    varied = [key for key in keys if len(analysis.settings[key].unique()) > 1] or keys
    return ", ".join(f"{short_key(analysis.sweep, key)} = {level_text(setting[key])}" for key in varied)


def short_key(sweep: Sweep, key: str) -> str:
    """A key without its section, where that leaves it one of a kind."""
    rest = key.partition(".")[2]
    alike = [other for other in sweep.keys if other.partition(".")[2] == rest]
    return rest if rest and len(alike) == 1 else key


def figure_text(setting: pd.Series, metric: Metric) -> str:
    """`91.26 tokens/s   (80.1 to 103)`: the figure and its 90 % interval."""
    value = float(setting[metric.key])
    low, high = bars(setting, metric)
    if low == high:
        return metric.text(value)
    ends = [metric.text(end).partition(" ")[0] for end in (low, high)]
    return f"{metric.text(value)} ({ends[0]} to {ends[1]})"


def verdict(analysis: Analysis) -> list[str]:
    """The best setting and the next in sentences; without one, what came nearest."""
    goal, best = analysis.goal, analysis.best
    if best is None:
        return _nobody(analysis)
    sentences = [f"best: {goal.metric.name} {figure_text(best, goal.metric)} with {setting_text(analysis, best)}"]
    if analysis.ties > 1:
        sentences.append(f"{analysis.ties:,} settings reach the same; this is the first of them")
    other = analysis.runner_up
    if other is not None and analysis.ties == 1:
        value, others = float(best[goal.metric.key]), float(other[goal.metric.key])
        ratio = f"{others / value:.3f} of it" if value else goal.metric.text(others)
        close = "; too close to call: their 90 % intervals meet" if analysis.too_close() else ""
        sentences.append(
            f"next: {ratio} ({figure_text(other, goal.metric)}) with {setting_text(analysis, other)}{close}"
        )
        lead = analysis.by_chance()
        if lead is not None:
            sure = "no more than chance" if lead[0] <= 0.0 <= lead[1] else "more than chance"
            ends = " to ".join(goal.metric.text(abs(end)) for end in sorted(lead, key=abs))
            if lead[0] <= 0.0 <= lead[1]:
                ends = " to ".join(goal.metric.text(end) for end in lead)
            sentences.append(f"over {len(analysis.sweep.seeds)} seeds the lead is {sure}: {ends} (90 % t-interval)")
        elif analysis.seeds_change_nothing:
            sentences.append(f"all {len(analysis.sweep.seeds)} seeds give the same; they say nothing of chance")
    return sentences


def _nobody(analysis: Analysis) -> list[str]:
    nearest = analysis.nearest
    if nearest is None:
        return ["no setting has an answer; see the reasons below"]
    if not analysis.goal.limits:
        return [f"no setting has the metric '{analysis.goal.metric.key}'; ask for another"]
    broken = [
        f"{limit.text()}: {limit.metric.text(float(nearest[limit.metric.key]))}"
        for limit in analysis.goal.limits
        if not limit.keeps(float(nearest[limit.metric.key]))
    ]
    return [
        f"no setting keeps every limit; the nearest breaks {'; '.join(broken)}",
        f"it has {setting_text(analysis, nearest)}",
    ]


def limit_lines(analysis: Analysis) -> list[str]:
    """Each limit with what the best setting reached."""
    best = analysis.best
    lines = []
    for limit in analysis.goal.limits if best is not None else ():
        assert best is not None
        low, high = bars(best, limit.metric)
        close = "; too close to call" if limit.keeps(low) != limit.keeps(high) else ""
        lines.append(f"{limit.text()}: kept, {figure_text(best, limit.metric)}{close}")
    return lines


def _best_lines(analysis: Analysis) -> list[str]:
    first, *rest = verdict(analysis)
    lines = [f"  {click.style(first, bold=True)}", *(f"  {text}" for text in rest)]
    lines += [f"  {text}" for text in limit_lines(analysis)]
    best = analysis.best if analysis.best is not None else analysis.nearest
    if best is None:
        return lines
    lines.append("")
    for key in key_figures(analysis.sweep):
        metric = SWEEP_METRICS[key]
        spread = _chance_text(best, metric)
        lines.append(f"  {metric.name:<26}{metric.text(float(best[key])):>22}{_bars_text(best, metric)}{spread}")
    return [*lines, f"  {best['bottleneck']}", f"  grade: {best['grade']}"]


def _bars_text(setting: pd.Series, metric: Metric) -> str:
    low, high = bars(setting, metric)
    if low == high:
        return ""
    return f"   ({metric.text(low).partition(' ')[0]} to {metric.text(high).partition(' ')[0]})"


def _chance_text(setting: pd.Series, metric: Metric) -> str:
    """Over seeds, where a t-interval was taken."""
    if f"{metric.key}.t_low" not in setting.index or not varies(setting, metric):
        return ""
    ends = [metric.text(float(setting[f"{metric.key}.t_{end}"])).partition(" ")[0] for end in ("low", "high")]
    return f", over seeds {ends[0]} to {ends[1]}"


def _effect_lines(analysis: Analysis) -> list[str]:
    metric = analysis.goal.metric
    if not analysis.effects:
        if analysis.sweep.method == "list":
            return ["", "  no shares of the axes: those of a list move in step"]
        return ["", f"  {metric.name} does not vary over the axes"] if len(analysis.settings) > 1 else []
    lines = ["", f"  what moves {metric.name} (share of its variance; mean from lowest to highest)"]
    width = max(len(effect.key) for effect in analysis.effects)
    for effect in analysis.effects:
        order = sorted(range(len(effect.means)), key=lambda number: effect.means[number])
        ends = " to ".join(f"{metric.text(effect.means[n])} ({effect.levels[n]})" for n in (order[0], order[-1]))
        lines.append(f"  {effect.key:<{width}}  {effect.share:>6.1%}   {ends}")
    return [*lines, f"  {shares_note(analysis)}"]


def shares_note(analysis: Analysis) -> str:
    """What the shares leave, or why they overlap."""
    rest = 1.0 - sum(effect.share for effect in analysis.effects)
    if rest < -0.005:
        return "shares overlap: constraints, or points without an answer, let axes vary together"
    if analysis.sweep.method in ("random", "lhs"):
        return f"the other {max(rest, 0.0):.1%}: what no axis moves alone, or too fine for the samples"
    return f"the other {max(rest, 0.0):.1%}: what no axis moves alone"


def _front_lines(analysis: Analysis) -> list[str]:
    first, second = analysis.goal.pareto
    front = analysis.front
    if len(front) < 2:
        return []
    lines = ["", f"  trade-off: {first.name} against {second.name}"]
    shown = front if len(front) <= FRONT_ROWS else front.iloc[_spread(len(front), FRONT_ROWS)]
    for _, setting in shown.iterrows():
        kept = "" if setting["keeps"] else "   breaks a limit"
        figures = "".join(f"{metric.text(float(setting[metric.key])):>18}" for metric in (first, second))
        lines.append(f"{figures}   {setting_text(analysis, setting)}{kept}")
    if len(front) > len(shown):
        lines.append(f"  {len(shown)} of {len(front):,} settings that no other beats in both")
    return lines


def reason_lines(analysis: Analysis) -> list[str]:
    """Points without an answer, with their reasons counted."""
    lines = []
    for status, what in ((INFEASIBLE, "infeasible"), (FAILED, "failed")):
        found = [(reason, number) for kind, reason, number in analysis.reasons if kind == status]
        if found:
            lines += ["", f"  {count(sum(number for _, number in found), 'point')} {what}"]
            lines += [f"  {number:>6,} x {reason}" for reason, number in found[:REASON_ROWS]]
            if len(found) > REASON_ROWS:
                lines.append(f"         and {len(found) - REASON_ROWS:,} other reasons; see the column 'reason'")
    return lines


def _next_step(analysis: Analysis, out: Path | None) -> str:
    if out is None:
        return "add --out DIR to keep the rows, a report with pictures and the best scenario"
    if analysis.best is None:
        return (
            f"written to {out}: open report.html; loosen a limit, or widen an axis and run again (done points are kept)"
        )
    return f"written to {out}: open report.html; next: fleetcast run {out / 'best.toml'} --out {out}-best"


def _spread(length: int, many: int) -> list[int]:
    return [round(number * (length - 1) / (many - 1)) for number in range(many)]


def count(number: int, noun: str) -> str:
    """`1 point`, `2 points`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
