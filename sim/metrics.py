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
        Metric("energy.wh_per_request", "energy of a request, at the site", "Wh", "Wh", 1.0, False),
        Metric("energy.gco2e_per_request", "carbon of a request", "gCO2e", "gCO2e", 1.0, False),
        Metric("energy.usd_per_million_output_tokens", "electricity of output", "USD/Mtok", "USD/Mtok", 1.0, False),
        Metric("preemptions", "preemptions", "", "", 1.0, False),
        Metric("kv_peak_fraction", "KV blocks in use at peak", "", "%", 100.0, False),
        Metric("power.row_w.mean", "row power, mean", "W", "kW", 1e-3, None),
        Metric("power.row_peak_fraction", "row power, highest reading of its limit", "", "%", 100.0, False),
        Metric("power.rise_fraction", "row power, rise within the actuation delay", "", "%", 100.0, False),
        Metric("power.over_limit_s", "row above its limit", "s", "s", 1.0, False),
        Metric("power.brakes", "power brakes", "", "", 1.0, False),
        Metric("power.breaker_trips", "breaker trips", "", "", 1.0, False),
        Metric("power.low_priority_locked_s", "low priority slowed", "s", "s", 1.0, False),
        Metric("power.high_priority_locked_s", "high priority slowed", "s", "s", 1.0, False),
        Metric("power.training.tokens_per_s", "training in the row", "tokens/s", "tokens/s", 1.0, True),
        Metric("power.training.lost_fraction", "training in the row, lost to slowdowns", "", "%", 100.0, False),
        *(
            Metric(f"power.by_priority.{who}.e2e_{point}_s", f"E2E {point}, {who} priority", "s", "ms", 1e3, False)
            for who in ("high", "low")
            for point in ("p50", "p99")
        ),
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
        Metric("energy.site_j_per_token", "energy of a token, at the site", "J", "J", 1.0, False),
        Metric("energy.kgco2e_per_billion_tokens", "carbon of training", "kgCO2e/Gtok", "kgCO2e/Gtok", 1.0, False),
        Metric("energy.usd_per_billion_tokens", "electricity of training", "USD/Gtok", "USD/Gtok", 1.0, False),
    ]
}


def _rest() -> list[Metric]:
    """What a summary holds beyond the metrics that reports and comparisons show."""
    latencies = {
        key.partition(".")[0]: metric.name.rpartition(" ")[0] for key, metric in METRICS.items() if "_s." in key
    }
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
        Metric("mean_power_w_per_gpu_used", "power of a GPU that serves", "W", "W", 1.0, None),
        Metric("pipeline_bubble_fraction", "pipeline bubbles", "", "%", 100.0, False),
        Metric("energy.prompt_j_per_token", "GPUs' energy of a prompt token", "J", "J", 1.0, False),
        Metric("energy.decode_j_per_token", "GPUs' energy of decoding a token", "J", "J", 1.0, False),
        Metric("energy.site_j_per_output_token", "energy of an output token, at the site", "J", "J", 1.0, False),
        Metric("energy.waiting_fraction", "GPUs' energy between steps", "", "%", 100.0, None),
        Metric("energy_j", "energy of the GPUs", "J", "kWh", 1.0 / 3.6e6, False),
        Metric("kv_cache.hit_fraction", "prompt tokens found in a prefix cache", "", "%", 100.0, True),
        Metric("kv_cache.load_stall_s", "steps' wait for KV from below the GPUs", "s", "s", 1.0, False),
        Metric("scaler.replicas_serving", "replicas that serve, mean", "", "", 1.0, None),
        Metric("scaler.gpus_held", "GPUs that replicas hold, mean", "", "", 1.0, False),
        Metric("scaler.held_energy_j", "energy of the GPUs that replicas hold", "J", "kWh", 1.0 / 3.6e6, False),
        Metric("scaler.starts", "starts of replicas", "", "", 1.0, None),
        Metric("scaler.reshards", "starts with another tensor parallelism", "", "", 1.0, None),
        *(
            Metric(f"scaler.gpu_w.{point}", f"GPUs' power, {point}", "W", "kW", 1e-3, None)
            for point in ("mean", "p50", "p99", "max")
        ),
        *_accounts("energy", "kgCO2e", 1.0),
    ]


def _accounts(entry: str, carbon: str, factor: float) -> list[Metric]:
    """What a run, or a whole training, came to; carbon, factor: unit in which reports show it, and times kg."""
    return [
        Metric(f"{entry}.gpu_kwh", "energy of the GPUs", "kWh", "kWh", 1.0, False),
        Metric(f"{entry}.wall_kwh", "energy at the wall", "kWh", "kWh", 1.0, False),
        Metric(f"{entry}.site_kwh", "energy of the site", "kWh", "kWh", 1.0, False),
        Metric(f"{entry}.kgco2e", "carbon", "kgCO2e", carbon, factor, False),
        Metric(f"{entry}.kgco2e_of_grid", "carbon of the electricity", "kgCO2e", carbon, factor, False),
        Metric(f"{entry}.kgco2e_embodied", "carbon of making the servers", "kgCO2e", carbon, factor, False),
        Metric(f"{entry}.usd", "cost of the electricity", "USD", "USD", 1.0, False),
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
        Metric("time_to_train.days", "whole training", "days", "days", 1.0, False),
        Metric("time_to_train.gpu_hours", "GPU-hours of the whole training", "h", "h", 1.0, False),
        *_accounts("time_to_train.energy", "tCO2e", 1e-3),
        *_swings(),
        *_offloaded_step(),
        *_checkpoints(),
    ]


def _checkpoints() -> list[Metric]:
    """Of saving states while training."""
    return [
        Metric("checkpoint.blocked_s", "waited for a checkpoint", "s", "s", 1.0, False),
        Metric("checkpoint.iteration_s", "a step with checkpoints", "s", "s", 1.0, False),
        Metric("checkpoint.perceived_bytes_per_s", "checkpoint over what is waited", "bytes/s", "GB/s", 1e-9, True),
        Metric("checkpoint.host_peak_bytes", "checkpoints in a server's memory", "bytes", "GB", 1e-9, False),
    ]


def _offloaded_step() -> list[Metric]:
    """Of a step whose states, weights or activations live below the GPU's memory."""
    streams = ("compute", "h2d", "d2h", "ssd", "cpu", "collectives")
    moved = ("h2d", "d2h", "ssd_read", "ssd_write", "cpu")
    kinds = ("forward", "backward", "cpu_adam")
    phases = ("forward", "backward", "step")
    return [
        *(Metric(f"offload.busy_fraction.{s}", f"in use: {s}", "", "%", 100.0, None) for s in streams),
        *(
            Metric(f"offload.moved_bytes.{m}", f"moved: {m.replace('_', ' ')}", "bytes", "GB", 1e-9, None)
            for m in moved
        ),
        *(Metric(f"offload.task_s.{k}", f"seconds of {k.replace('_', ' ')}", "s", "s", 1.0, False) for k in kinds),
        *(Metric(f"offload.phase_s.{p}", f"{p} as frameworks time it", "s", "s", 1.0, False) for p in phases),
        Metric("offload.needed_write_bytes_per_s", "writes in half of the step", "bytes/s", "GB/s", 1e-9, None),
        Metric("offload.gpu_process_bytes", "GPU memory that the driver tells", "bytes", "GB", 1e-9, False),
        Metric("offload.tiers.host.peak_bytes", "peak of host memory, a rank", "bytes", "GB", 1e-9, False),
        Metric("offload.tiers.drives.peak_bytes", "peak of drives, a rank", "bytes", "GB", 1e-9, False),
        Metric("offload.largest.parameters", "largest model that fits", "parameters", "G parameters", 1e-9, True),
    ]


def _swings() -> list[Metric]:
    """What a step's power does at the wall."""
    watts = (("mean", "mean"), ("peak", "highest"), ("trough", "lowest"))
    ramps = (("over_0_1_s", "0.1 s"), ("over_1_s", "1 s"), ("over_2_s", "2 s"))
    return [
        *(Metric(f"power.wall_w.{key}", f"power at the wall, {name}", "W", "kW", 1e-3, None) for key, name in watts),
        Metric("power.gpu_w.peak", "power of a GPU, highest", "W", "W", 1.0, None),
        Metric("power.gpu_w.trough", "power of a GPU, lowest", "W", "W", 1.0, None),
        Metric("power.gpu_w.trough_over_0_1_s", "power of a GPU, lowest 0.1 s", "W", "W", 1.0, None),
        Metric("power.wall_w.peak_over_1_s", "power at the wall, highest second", "W", "kW", 1e-3, None),
        Metric("power.swing_fraction", "swing of the power read every 0.1 s, of its peak", "", "%", 100.0, False),
        Metric("power.peak_of_rated_fraction", "power over 2 s at its highest, of the rated", "", "%", 100.0, False),
        Metric("power.rise_2_s_of_rated_fraction", "rise of the power in 2 s, of the rated", "", "%", 100.0, False),
        *(
            Metric(f"power.ramp_{way}_w_per_s.{key}", f"ramp {way}, read every {period}", "W/s", "kW/s", 1e-3, False)
            for way in ("up", "down")
            for key, period in ramps
        ),
        Metric("power.dominant_hz", "frequency of the largest swing", "Hz", "Hz", 1.0, None),
        Metric("power.dominant_amplitude_w", "amplitude of the largest swing", "W", "kW", 1e-3, False),
        Metric("power.grid_band_fraction", "variance of the power at 0.1 to 20 Hz", "", "%", 100.0, False),
        Metric("power.smoothing.added_fraction", "power that smoothing adds", "", "%", 100.0, False),
        Metric("power.smoothing.held_back_fraction", "time by which smoothing holds work back", "", "%", 100.0, False),
    ]


def _offload() -> list[Metric]:
    """Of a batch job of offloaded inference."""
    bounds = ("compute", "host", "storage", "copies", "idle")
    streams = ("gpu", "cpu", "h2d", "d2h", "drives")
    tiers = (("gpu", "GPU memory"), ("host", "host memory"), ("storage", "drives"))
    routes = (("h2d", "copied to the GPU"), ("d2h", "copied from the GPU"), ("read", "read"), ("write", "written"))
    return [
        METRICS["output_throughput"],
        METRICS["total_token_throughput"],
        Metric("decode_throughput", "decoding", "tokens/s", "tokens/s", 1.0, True),
        Metric("prefill_s", "prompts of a block", "s", "s", 1.0, False),
        Metric("decode_s", "decoding of a block", "s", "s", 1.0, False),
        Metric("decode_step_s", "decoding step, mean", "s", "s", 1.0, False),
        Metric("duration_s", "duration", "s", "s", 1.0, False),
        *(Metric(f"memory.{tier}.peak_bytes", f"peak of {name}", "bytes", "GB", 1e-9, False) for tier, name in tiers),
        *(Metric(f"moved_bytes.{route}", f"{name}, a block", "bytes", "GB", 1e-9, False) for route, name in routes),
        METRICS["usd_per_million_output_tokens"],
        METRICS["cost_usd"],
        *(Metric(f"busy.{stream}_fraction", f"in use: {stream}", "", "%", 100.0, None) for stream in streams),
        *(Metric(f"bound_by.{b}_fraction", f"bound by: {b}", "", "%", 100.0, None) for b in bounds),
        *(
            Metric(f"phases.{phase}.{kind}_s", f"{phase}: {kind.replace('_', ' ')}", "s", "s", 1.0, False)
            for phase in ("prefill", "decode")
            for kind in ("compute", "load_weight", "load_cache", "load_activation", "store_cache", "store_activation")
        ),
        *(Metric(key, key.replace("_", " "), "", "", 1.0, None) for key in ("requests", "blocks", "block_sequences")),
    ]


OFFLOAD_METRICS: dict[str, Metric] = {metric.key: metric for metric in _offload()}
SERVING_SUMMARY_METRICS: dict[str, Metric] = METRICS | {metric.key: metric for metric in _rest()}
TRAINING_SUMMARY_METRICS: dict[str, Metric] = TRAINING_METRICS | {metric.key: metric for metric in _training_rest()}
SUMMARY_METRICS: dict[str, Metric] = SERVING_SUMMARY_METRICS | OFFLOAD_METRICS | TRAINING_SUMMARY_METRICS


def summary_metric(key: str, where: str) -> Metric:
    """A metric by its dotted key; raises UnknownNameError, in which `where` says what asked for it."""
    if key not in SUMMARY_METRICS:
        raise UnknownNameError(where, key, SUMMARY_METRICS)
    return SUMMARY_METRICS[key]
