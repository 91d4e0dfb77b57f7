"""The report on a terminal: what was asked, the answer, the reason, what to edit next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from app.energy_lines import energy_lines
from app.kv_lines import kv_lines
from sim.metrics import METRICS, SUMMARY_METRICS, plain
from sim.result import Result

HEADLINE = (
    "request_throughput",
    "output_throughput",
    "request_goodput_per_s",
    "goodput_fraction",
    "mfu",
    "mbu",
    "usd_per_million_output_tokens",
    "kv_peak_fraction",
    "preemptions",
    "energy_j_per_output_token",
    "mean_power_w_per_gpu",
)
LATENCIES = (("ttft_s", "TTFT"), ("tbt_s", "TBT"), ("tpot_s", "TPOT"), ("e2e_s", "E2E"), ("queue_s", "queueing"))
ROW_WATTS = {"mean": "mean", "p99": "p99", "peak of 1 min": "peak_1_min", "highest reading": "max"}
STATISTICS = ("mean", "p50", "p90", "p99", "max")


def print_report(result: Result, out: Path | None) -> None:
    """Print a finished run to standard output."""
    for line in report_lines(result, out):
        click.echo(line)


def grades_in_words(summary: dict[str, Any]) -> str:
    """What each part of the times rests on."""
    return ", ".join(f"{part} {grade}" for part, grade in summary["grades"].items())


def report_lines(result: Result, out: Path | None) -> list[str]:
    """The report, line by line."""
    summary, scenario = result.summary, result.scenario
    serving = scenario.serving
    lines = [
        "",
        click.style(f"{scenario.name}", bold=True),
        f"  {summary['model']} ({scenario.model.weight_dtype}) on {scenario.cluster.nodes:,} x"
        f" {summary['node']}: {serving.replicas:,} replica{_s(serving.replicas)}"
        f" of TP{serving.tensor_parallel_size} PP{serving.pipeline_parallel_size},"
        f" {serving.scheduler.name}, engine {serving.engine}",
        f"  {summary['requests']:,} request{_s(summary['requests'])} from {summary['workload']},"
        f" {plain(summary['duration_s'])} s simulated, seed {summary['seed']}",
        "",
        *_verdict(summary),
        "",
        *_latency_table(summary),
    ]
    lines.append("")
    lines += [
        f"  {METRICS[key].name:<26}{METRICS[key].text(METRICS[key].value(summary)):>22}{_interval(summary, key)}"
        for key in HEADLINE
    ]
    lines += ["", *(f"  {line}" for line in energy_lines(summary))]
    lines += power_lines(summary["power"])
    lines += load_lines(summary)
    lines += [f"  {line}" for line in kv_lines(summary)]
    lines += ["", "  " + _shares(summary["bound_by"]), "  " + summary["bottleneck"]]
    lines += [f"  note: {note}" for note in summary["notes"]]
    lines.append(f"  grade: {summary['grade']} ({grades_in_words(summary)})")
    lines += ["", f"  {_next_step(result, out)}", ""]
    return lines


def load_lines(summary: dict[str, Any]) -> list[str]:
    """What follows the load, where something does: clocks, replicas."""
    lines = []
    if (governor := summary.get("governor")) is not None:
        mean = f"{governor['mean_clock_mhz']:,.0f}"
        lines.append(f"  clocks by load: {mean} MHz on average, {governor['orders']:,} orders")
    if (scaler := summary.get("scaler")) is not None:
        lines.append(scaler_line(scaler))
    return lines


def scaler_line(scaler: dict[str, Any]) -> str:
    """Replicas that come and go, in a line."""
    hours = scaler["gpu_h_by_tensor_parallel_size"]
    sizes = ", ".join(f"TP{size} {plain(count)}" for size, count in hours.items() if count > 0.0)
    held = f" {scaler['requests_held']:,} requests waited for one to serve;" if scaler["requests_held"] else ""
    return (
        f"  replicas by load: {plain(scaler['replicas_serving'])} serve on average, on"
        f" {plain(scaler['gpus_held'])} GPUs ({scaler['held_fraction']:.0%});{held}"
        f" {scaler['starts']:,} starts, {scaler['reshards']:,} of them with another tensor parallelism;"
        f" GPU-hours: {sizes}"
    )


def power_lines(power: dict[str, Any] | None) -> list[str]:
    """A metered row in a few lines."""
    if power is None:
        return []
    row, limit_w = power["row_w"], power["row_limit_w"]
    watts = ", ".join(f"{name} {row[key] / 1e3:,.1f}" for name, key in ROW_WATTS.items())
    lines = [
        "",
        f"  row power, kW: {watts}; limit {limit_w / 1e3:,.1f} ({power['row_peak_fraction']:.1%} at the highest"
        " reading)",
        f"  power brakes {power['brakes']}, breaker trips {power['breaker_trips']},"
        f" above the limit for {plain(power['over_limit_s'])} s; slowed: low priority"
        f" {plain(power['low_priority_locked_s'])} s, high priority {plain(power['high_priority_locked_s'])} s",
    ]
    if (training := power.get("training")) is not None:
        lines.append(
            f"  training: {training['nodes']} servers, {plain(training['steps'])} steps,"
            f" {plain(training['tokens_per_s'])} tokens/s, {training['lost_fraction']:.1%} lost to slowdowns in"
            f" {plain(training['slowed_s'])} s; lowest clock {training['lowest_clock_mhz']:,.0f} MHz of"
            f" {training['own_clock_mhz']:,.0f}"
        )
    for name, found in power["by_priority"].items():
        ttft, e2e = (_seconds(found, what) for what in ("ttft", "e2e"))
        lines.append(f"  {name} priority: {found['requests']:,} requests, p50 / p99, s: TTFT {ttft}, E2E {e2e}")
    return lines


def _seconds(found: dict[str, Any], what: str) -> str:
    values = (found[f"{what}_{point}_s"] for point in ("p50", "p99"))
    return " / ".join("-" if value is None else plain(value) for value in values)


def _latency_table(summary: dict[str, Any]) -> list[str]:
    """A line a latency, columns as wide as their longest figure."""
    rows: list[tuple[str, ...]] = [("latency, ms", *STATISTICS, "90 % interval of p99")]
    rows += [
        (name, *(_ms(summary[key][stat]) for stat in STATISTICS), latency_interval(summary, key))
        for key, name in LATENCIES
    ]
    widths = [max(9, *(len(row[column]) for row in rows)) for column in range(1, len(rows[0]))]
    return [
        f"  {row[0]:<12}" + "".join(f"{text:>{w + 2}}" for text, w in zip(row[1:], widths, strict=True)) for row in rows
    ]


def interval_of(summary: dict[str, Any], key: str) -> tuple[float, float] | None:
    """90 % interval of a metric by its dotted key, as stored; None where there is none."""
    bars: Any = summary.get("interval_90", {})
    for part in key.split("."):
        bars = bars.get(part) if isinstance(bars, dict) else None
    return (float(bars[0]), float(bars[1])) if isinstance(bars, list | tuple) else None


def latency_interval(summary: dict[str, Any], key: str, point: str = "p99") -> str:
    """90 % interval of a point of a latency's distribution, in ms; "-" where there is none."""
    bars = summary["interval_90"].get(key, {}).get(point)
    return "-" if bars is None else f"{_ms(bars[0])} to {_ms(bars[1])}"


def interval_text(summary: dict[str, Any], key: str) -> str:
    """90 % interval of a figure in its own unit; nothing where there is none."""
    bars = summary["interval_90"].get(key)
    if bars is None:
        return ""
    low, high = (SUMMARY_METRICS[key].text(value).partition(" ")[0] for value in bars)
    return f"{low} to {high}"


def close_call(summary: dict[str, Any], key: str) -> str:
    """A warning where the error bars of what an SLO judges span its limit."""
    name = "max_tbt_s" if key == "tbt_s" else key
    bars = summary["interval_90"].get(name, {}).get(f"p{summary['slo']['percentile']:g}")
    if bars is None or not bars[0] <= summary["slo"][key]["limit"] <= bars[1]:
        return ""
    return f"; too close to call: the 90 % interval is {bars[0] * 1e3:,.0f} to {bars[1] * 1e3:,.0f} ms"


def _interval(summary: dict[str, Any], key: str) -> str:
    text = interval_text(summary, key)
    return f"   ({text})" if text else ""


def _verdict(summary: dict[str, Any]) -> list[str]:
    slo = summary["slo"]
    limits = {key: value for key, value in slo.items() if isinstance(value, dict)}
    if not limits:
        return ["  no [slo] given: goodput counts every finished request"]
    lines = []
    for key, value in limits.items():
        seconds = value["reached"]
        reached = "never (requests were rejected)" if seconds is None else f"{seconds * 1e3:,.0f} ms"
        mark = click.style("met", fg="green") if value["met"] else click.style("missed", fg="red")
        name = {"tbt_s": "longest TBT"}.get(key, key.removesuffix("_s").upper())
        reached += close_call(summary, key)
        lines.append(f"  SLO p{slo['percentile']:g} {name} <= {value['limit'] * 1e3:,.0f} ms: {mark}, {reached}")
    return lines


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:,.1f}"


def _shares(bound_by: dict[str, float | None]) -> str:
    parts = [
        f"{name.removesuffix('_fraction').replace('_', ' ')} {share:.0%}"
        for name, share in bound_by.items()
        if share is not None
    ]
    return "time bound by: " + ", ".join(parts)


def _next_step(result: Result, out: Path | None) -> str:
    if out is not None:
        return f"written to {out}: open report.html; try --set serving.max_num_batched_tokens=1024"
    name = result.scenario.serving.scheduler.name
    other = "prefill_first" if name == "chunked_prefill" else "chunked_prefill"
    return f"try --set serving.scheduler.name={other}, or --out DIR for frames and a report with pictures"
