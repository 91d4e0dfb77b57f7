"""What a result is measured in: each metric's key in the summary, its unit, how it is shown, and whether more is
better.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isnan, log10
from typing import Any

from hardware_models.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a summary."""

    key: str  # dotted path into the summary
    name: str
    unit: str  # as stored
    shown_unit: str
    shown_factor: float  # shown = stored x factor
    larger_is_better: bool | None  # None: neither is, it only describes the run

    def value(self, summary: dict[str, Any]) -> float:
        """As stored; NaN where the summary has none."""
        node: Any = summary
        for part in self.key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return float("nan") if node is None else float(node)

    def text(self, value: float) -> str:
        """As shown, with its unit."""
        if isnan(value):
            return "-"
        return f"{plain(value * self.shown_factor)} {self.shown_unit}".rstrip()


def plain(value: float) -> str:
    """Four significant digits at least, thousands grouped, no exponent between a ten-thousandth and a million
    millions.
    """
    if value == 0.0 or not 1e-4 <= abs(value) < 1e12:
        return f"{value:.4g}"
    if abs(value) >= 1000.0:
        return f"{value:,.0f}"
    return f"{value:.{max(1, 3 - floor(log10(abs(value))))}f}".rstrip("0").rstrip(".")


def _latency(key: str, name: str) -> list[Metric]:
    return [Metric(f"{key}.{p}", f"{name} {p}", "s", "ms", 1e3, False) for p in ("mean", "p50", "p90", "p95", "p99")]


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in [
        Metric("request_throughput", "requests", "requests/s", "requests/s", 1.0, True),
        Metric("output_throughput", "output tokens", "tokens/s", "tokens/s", 1.0, True),
        Metric("total_token_throughput", "all tokens", "tokens/s", "tokens/s", 1.0, True),
        Metric("output_tokens_per_s_per_gpu", "output tokens a GPU", "tokens/s", "tokens/s", 1.0, True),
        Metric("request_goodput_per_s", "goodput", "requests/s", "requests/s", 1.0, True),
        Metric("goodput_fraction", "requests in SLO", "", "%", 100.0, True),
        *_latency("ttft_s", "TTFT"),
        *_latency("tpot_s", "TPOT"),
        *_latency("tbt_s", "TBT"),
        *_latency("max_tbt_s", "longest TBT"),
        *_latency("e2e_s", "E2E"),
        *_latency("queue_s", "queueing"),
        Metric("mfu", "MFU", "", "%", 100.0, True),
        Metric("mbu", "MBU", "", "%", 100.0, True),
        Metric("usd_per_million_output_tokens", "cost of output", "USD/Mtok", "USD/Mtok", 1.0, False),
        Metric("cost_usd", "cost of the run", "USD", "USD", 1.0, False),
        Metric("decode_stall_fraction", "token gaps: waiting", "", "%", 100.0, False),
        Metric("energy_j_per_output_token", "energy of an output token", "J", "J", 1.0, False),
        Metric("mean_power_w_per_gpu", "mean power of a GPU", "W", "W", 1.0, None),
        Metric("preemptions", "preemptions", "", "", 1.0, False),
        Metric("kv_peak_fraction", "KV blocks in use at peak", "", "%", 100.0, False),
    ]
}
TRAINING_METRICS: dict[str, Metric] = {  # of a training step
    metric.key: metric
    for metric in [
        Metric("step_s", "step", "s", "s", 1.0, False),
        Metric("tokens_per_s", "tokens", "tokens/s", "tokens/s", 1.0, True),
        Metric("tokens_per_s_per_gpu", "tokens a GPU", "tokens/s", "tokens/s", 1.0, True),
        Metric("samples_per_s", "sequences", "sequences/s", "sequences/s", 1.0, True),
        Metric("model_flop_per_s_per_gpu", "model arithmetic a GPU", "FLOP/s", "TFLOP/s", 1e-12, True),
        METRICS["mfu"],
        Metric("hfu", "HFU", "", "%", 100.0, None),
        Metric("pipeline_bubble_fraction", "pipeline bubbles", "", "%", 100.0, False),
        Metric("memory.peak_bytes", "memory of the fullest GPU", "bytes", "GB", 1e-9, False),
        Metric("energy_j_per_token", "energy of a token", "J", "J", 1.0, False),
        METRICS["mean_power_w_per_gpu"],
        Metric("usd_per_billion_tokens", "cost of training", "USD/Gtok", "USD/Gtok", 1.0, False),
    ]
}


def _rest() -> list[Metric]:
    """What a summary holds beyond the metrics that reports and comparisons show."""
    latencies = {key.partition(".")[0]: metric.name.rpartition(" ")[0] for key, metric in METRICS.items() if "." in key}
    spread = [
        Metric(f"{key}.{p}", f"{name} {p}", "s", "ms", 1e3, False)
        for key, name in latencies.items()
        for p in ("std", "max")
    ]
    normalised = [
        Metric(f"ntpot_s.{p}", f"normalised latency {p}", "s", "ms", 1e3, False)
        for p in ("mean", "std", "p50", "p90", "p95", "p99", "max")
    ]
    shares = ("compute", "memory", "network", "host", "idle", "kv_queue")
    bounds = [Metric(f"bound_by.{b}_fraction", f"bound by: {b}", "", "%", 100.0, None) for b in shares]
    counts = ("requests", "completed", "prompt_tokens", "output_tokens", "steps", "kv_blocks")
    return [
        *spread,
        *normalised,
        *bounds,
        *(Metric(key, key.replace("_", " "), "", "", 1.0, None) for key in counts),
        Metric("rejected", "rejected requests", "", "", 1.0, False),
        Metric("duration_s", "duration", "s", "s", 1.0, False),
        Metric("pipeline_bubble_fraction", "pipeline bubbles", "", "%", 100.0, False),
    ]


def _training_rest() -> list[Metric]:
    """The same of a training step."""
    bounds = ("compute", "memory", "launch", "network", "host", "idle")
    parallel = ("tensor_parallel", "context_parallel", "expert_parallel", "data_parallel")
    exposed = (*parallel, "pipeline_sends", "optimizer", "host")
    counts = ("gpus", "data_parallel_size", "micro_batches")
    return [
        *(Metric(f"bound_by.{b}_fraction", f"bound by: {b}", "", "%", 100.0, None) for b in bounds),
        *(Metric(f"exposed.{e}_fraction", f"exposed: {e.replace('_', ' ')}", "", "%", 100.0, None) for e in exposed),
        *(Metric(key, key.replace("_", " "), "", "", 1.0, None) for key in counts),
        Metric("energy_j_per_step", "energy of a step", "J", "J", 1.0, False),
    ]


SERVING_SUMMARY_METRICS: dict[str, Metric] = METRICS | {metric.key: metric for metric in _rest()}
TRAINING_SUMMARY_METRICS: dict[str, Metric] = TRAINING_METRICS | {metric.key: metric for metric in _training_rest()}
SUMMARY_METRICS: dict[str, Metric] = SERVING_SUMMARY_METRICS | TRAINING_SUMMARY_METRICS


def summary_metric(key: str, where: str) -> Metric:
    """A metric by its dotted key; raises UnknownNameError, in which `where` says what asked for it."""
    if key not in SUMMARY_METRICS:
        raise UnknownNameError(where, key, SUMMARY_METRICS)
    return SUMMARY_METRICS[key]
