"""The summary of a serving run: the field's terms, and the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models import catalog
from hardware_models.errors import UnknownNameError
from hardware_models.power import power_model
from hardware_models.provenance import worst_grade
from hardware_models.server_power import server_power
from sim.power.account import power_intervals, power_summary
from sim.power.governor import governor_summary
from sim.power.ledger import energy_account
from sim.power.scaled_account import scaler_summary
from sim.power.training_account import add_training
from sim.scenario import Scenario, SloSection
from sim.serving.attribution import Attribution
from sim.serving.bottleneck import bottleneck_sentence
from sim.serving.energy import energy_summary
from sim.serving.error_bars import intervals
from sim.serving.kv_summary import kv_cache_summary
from sim.serving.notes import notes, priced_as
from sim.serving.row_costs import BOUNDS
from sim.serving.shapes import gpus_used, ranks_of
from sim.serving.simulate import ServingRun
from sim.serving.token_gaps import TokenGaps, token_gaps
from workloads.models.counts import forward_flop
from workloads.models.weights import head_weights

Floats = NDArray[np.float64]
PERCENTS = (50.0, 90.0, 95.0, 99.0)


def summarise(
    scenario: Scenario, run: ServingRun, columns: dict[str, Any], attributions: list[Attribution]
) -> dict[str, Any]:
    """Everything one line of a comparison needs, as plain numbers, strings and None: see docs/results.md."""
    log, runs, deployment = run.requests, run.runs.columns(), run.deployment
    done = np.isfinite(columns["e2e_s"])
    finish = columns["arrival_s"] + columns["e2e_s"]
    duration = float(np.max(finish[done]) - np.min(columns["arrival_s"])) if done.any() else 0.0
    gaps = token_gaps(runs, np.frombuffer(run.runs.joiner_gaps))
    summary: dict[str, Any] = {
        "schema": 1,
        "name": scenario.name,
        "seed": scenario.seed,
        "model": deployment.architecture.name,
        "node": deployment.node.name,
        "hardware": deployment.own_figures,
        "workload": log.requests.source,
        "requests": len(log.requests),
        "completed": log.finished,
        "rejected": len(log.rejected),
        "duration_s": duration,
    }
    summary |= _throughput(run, columns, done, duration)
    summary |= _latencies(columns, gaps)
    summary |= _service(scenario.slo, columns, duration)
    summary |= {
        "decode_stall_fraction": decode_stall(run, runs, gaps),
        "preemptions": int(columns["preemptions"].sum()),
        "steps": int(runs["iterations"].sum()),
        "runs": len(runs["iterations"]),
    }
    del gaps  # of a day's row, most of a gigabyte
    summary |= _utilisation(run, columns, attributions, done, duration)
    summary |= _memory(run) | kv_cache_summary(run)
    summary["bound_by"] = bound_by(run, attributions, duration)
    summary["pipeline_bubble_fraction"] = pipeline_bubble(runs, attributions) if len(attributions) > 1 else None
    summary |= _cost(run, duration, summary["output_tokens"])
    _add_energy(summary, scenario, run, columns, runs, attributions)
    summary["bottleneck"] = bottleneck_sentence(summary)
    watts = power_model(deployment.gpu)
    summary["interval_90"] = intervals(summary, columns, runs, attributions, watts.sigma, watts.tdp_w)
    server = server_power(deployment.node)
    summary["interval_90"] |= power_intervals(summary["power"], watts.sigma, server.sigma)
    summary["grades"] = deployment.grades | {"power": watts.grade}
    summary["grade"] = worst_grade(summary["grades"].values())
    summary["notes"] = notes(scenario, run, columns, priced=summary["usd_per_gpu_h"] is not None)
    return summary


def _add_energy(
    summary: dict[str, Any],
    scenario: Scenario,
    run: ServingRun,
    columns: dict[str, Any],
    runs: dict[str, Any],
    attributions: list[Attribution],
) -> None:
    """Joules, watts, and what they come to at the meter; of what the summary says already."""
    deployment, duration = run.deployment, summary["duration_s"]
    begin_s, awake = float(np.min(columns["arrival_s"])), run.power.awake if run.power is not None else None
    summary |= energy_summary(
        deployment, runs, attributions, len(run.replicas), begin_s, duration, summary["output_tokens"], awake
    )
    summary |= power_summary(run.power, scenario.power, columns)
    summary |= governor_summary(run.power.governor if run.power is not None else None, begin_s, duration)
    summary |= energy_account(scenario, deployment, runs, attributions, begin_s, summary, awake)
    add_training(summary, scenario, run.power, begin_s)
    summary |= scaler_summary(deployment, run.power, runs, attributions, begin_s, duration)


def _throughput(
    run: ServingRun, columns: dict[str, Any], done: NDArray[np.bool_], duration: float
) -> dict[str, float | None]:
    """Tokens of the completed requests, and rates."""
    prompt, output = (int(columns[name][done].sum()) for name in ("prompt_tokens", "output_tokens"))
    return {
        "prompt_tokens": prompt,
        "output_tokens": output,
        "request_throughput": _rate(run.requests.finished, duration),
        "output_throughput": _rate(output, duration),
        "total_token_throughput": _rate(output + prompt, duration),
        "output_tokens_per_s_per_gpu": _rate(output, duration * run.deployment.gpus_total),
    }


def _latencies(columns: dict[str, Any], gaps: TokenGaps) -> dict[str, dict[str, float | None]]:
    """Distributions over requests; of tbt_s over all gaps between tokens."""
    return {
        "ttft_s": _distribution(columns["ttft_s"]),
        "tpot_s": _distribution(columns["tpot_s"]),
        "tbt_s": gap_distribution(gaps),
        "max_tbt_s": _distribution(columns["max_tbt_s"]),
        "e2e_s": _distribution(columns["e2e_s"]),
        "queue_s": _distribution(columns["queue_s"]),
        "ntpot_s": _distribution(columns["e2e_s"] / columns["output_tokens"]),  # vLLM's normalised latency
    }


def _service(slo: SloSection, columns: dict[str, Any], duration: float) -> dict[str, Any]:
    """How many requests kept every limit, and each limit."""
    good = int(columns["slo_met"].sum())
    return {
        "request_goodput_per_s": _rate(good, duration),
        "goodput_fraction": good / len(columns["slo_met"]),
        "slo": _slo(slo, columns),
    }


def bound_by(run: ServingRun, attributions: list[Attribution], duration: float) -> dict[str, float | None]:
    """Shares of stage time: compute, memory, network, host and idle sum to 1; kv_queue, which overlaps them, is the
    share of time in which the queue's head was kept waiting by a lack of KV blocks.
    """
    elapsed = held_s(run, duration) * len(attributions)
    if elapsed == 0.0:
        return {f"{name}_fraction": None for name in (*BOUNDS, "idle", "kv_queue")}
    seconds = sum(a.seconds.sum(axis=1) for a in attributions)
    shares = {f"{name}_fraction": float(s / elapsed) for name, s in zip(BOUNDS, np.asarray(seconds), strict=True)}
    idle = 1.0 - sum(shares.values())
    shares["idle_fraction"] = 0.0 if abs(idle) < 1e-9 else idle  # less is rounding
    shares["kv_queue_fraction"] = sum(replica.kv_queue_s for replica in run.replicas) / held_s(run, duration)
    return dict(shares)


def held_s(run: ServingRun, duration: float) -> float:
    """Seconds of all replicas from the first arrival on, less those in which a replica was not there."""
    if run.power is None or run.power.scaler is None:
        return duration * len(run.replicas)
    begin_s = float(np.min(run.requests.requests.arrival_s))
    return float(run.power.awake.held_s(np.array([begin_s, begin_s + duration])).sum())


def decode_stall(run: ServingRun, runs: dict[str, Floats], gaps: TokenGaps) -> float | None:
    """Share of the time between tokens before the step that the next token came out of: others' prompts run alone,
    copies of KV blocks, time in the queue and recomputation after a preemption.

    None with pipeline parallelism, where a micro-batch's steps do not follow one another without a pause.
    """
    between = gaps.total_s
    if between == 0.0 or len(run.deployment.stages) > 1:
        return None
    waited = runs["gap_s"] - runs["first_s"]
    waited = np.where(waited > 1e-9, waited, 0.0) * runs["gap_seqs"]  # less is rounding of the clock
    share = (float(waited.sum()) + run.runs.joiner_waits_s) / between
    return 0.0 if abs(share) < 1e-9 else share  # less is rounding


def pipeline_bubble(runs: dict[str, Floats], attributions: list[Attribution]) -> float | None:
    """Share of stage time without work while a micro-batch was in flight somewhere on the replica."""
    occupied = 0.0
    for replica in np.unique(runs["replica"]):
        mine = runs["replica"] == replica
        order = np.argsort(runs["start_s"][mine])
        start = runs["start_s"][mine][order]
        end = np.maximum.accumulate(start + (runs["copy_s"] + runs["first_s"])[mine][order])
        idle_before = np.maximum(start[1:] - end[:-1], 0.0)
        occupied += float(end[-1] - start[0] - idle_before.sum())
    busy = sum(float(a.busy_s.sum()) for a in attributions)
    return 1.0 - busy / (occupied * len(attributions)) if occupied else None


def _rate(amount: float, seconds: float) -> float | None:
    return amount / seconds if seconds > 0 else None


def _distribution(values: Floats) -> dict[str, float | None]:
    values = values[np.isfinite(values)]
    if not len(values):
        return dict.fromkeys(("mean", "std", "p50", "p90", "p95", "p99", "max"))
    percentiles = np.percentile(values, PERCENTS)
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        **{f"p{p:g}": float(v) for p, v in zip(PERCENTS, percentiles, strict=True)},
        "max": float(values.max()),
    }


def gap_distribution(gaps: TokenGaps) -> dict[str, float | None]:
    """Over tokens, in seconds."""
    if not gaps.tokens:
        return dict.fromkeys(("mean", "std", "p50", "p90", "p95", "p99", "max"))
    percentiles = gaps.percentiles(np.asarray(PERCENTS))
    return {
        "mean": gaps.mean_s,
        "std": gaps.std_s,
        **{f"p{p:g}": float(v) for p, v in zip(PERCENTS, percentiles, strict=True)},
        "max": gaps.longest_s,
    }


def _slo(slo: SloSection, columns: dict[str, Any]) -> dict[str, Any]:
    """Each limit with what the run reached at the scenario's percentile over all requests; a rejected one misses."""
    limits = {"ttft_s": slo.ttft_s, "tbt_s": slo.tbt_s, "tpot_s": slo.tpot_s, "e2e_s": slo.e2e_s}
    rejected = ~np.isfinite(columns["e2e_s"])
    verdict: dict[str, Any] = {"percentile": slo.percentile}
    for key, limit in limits.items():
        if limit is None:
            continue
        values = columns["max_tbt_s" if key == "tbt_s" else key]
        reached = np.where(rejected, np.inf, np.nan_to_num(values, nan=0.0))
        value = float(np.percentile(reached, slo.percentile, method="higher"))
        verdict[key] = {"limit": limit, "reached": value if np.isfinite(value) else None, "met": value <= limit}
    verdict["met"] = all(v["met"] for v in verdict.values() if isinstance(v, dict))
    return verdict


def _utilisation(
    run: ServingRun, columns: dict[str, Any], attributions: list[Attribution], done: NDArray[np.bool_], duration: float
) -> dict[str, float | None]:
    """MFU: arithmetic of the completed requests' tokens over peak; MBU: bytes of weights and KV that all steps
    read from the GPUs' memory, over bandwidth.
    """
    deployment = run.deployment
    used = gpus_used(deployment, len(run.replicas))
    peak = deployment.gpu.peak_flop_per_s[deployment.dtypes.activation] * used
    prompt, output = (columns[name][done].astype(float) for name in ("prompt_tokens", "output_tokens"))
    computed = prompt - columns["cached_tokens"][done]
    flop = float(np.sum(forward_flop(deployment.architecture, computed + output - 1.0, 0.0)))
    head = head_weights(deployment.architecture, shares_embedding=False)
    head_elements = sum(weight.elements for weight in head if weight.multiplies)
    flop += 2.0 * head_elements * float(np.sum(output - 1.0))  # forward_flop counts the head for one token a request
    ranks = ranks_of(deployment, len(run.replicas)) // len(deployment.stages)
    of_run = ranks[run.runs.columns()["replica"].astype(np.int64)]
    moved = sum(float(np.dot(of_run, a.read_bytes)) for a in attributions)
    bandwidth = deployment.gpu.memory_bandwidth_bytes_per_s * used
    return {"mfu": _rate(flop / peak, duration), "mbu": _rate(moved / bandwidth, duration)}


def _memory(run: ServingRun) -> dict[str, Any]:
    memory = run.deployment.memory
    peak = max(replica.blocks.peak_used / replica.blocks.total for replica in run.replicas)
    return {
        "kv_blocks": memory.kv_blocks,
        "kv_block_tokens": run.deployment.limits.block_size,
        "kv_peak_fraction": peak,
        "memory": {
            "device_bytes": memory.device_bytes,
            "weight_bytes": memory.weight_bytes,
            "activation_bytes": memory.activation_bytes,
            "overhead_bytes": memory.overhead_bytes,
            "kv_bytes": memory.kv_blocks * memory.block_bytes,
            "peak_bytes": memory.peak_bytes,
        },
    }


def _cost(run: ServingRun, duration: float, output: int) -> dict[str, Any]:
    """At list price, of a variation its original's, for every GPU of the cluster, used or not."""
    deployment = run.deployment
    used = gpus_used(deployment, len(run.replicas))
    result: dict[str, Any] = {"gpus": deployment.gpus_total, "gpus_used": used}
    try:
        price = catalog.price_usd_per_gpu_h(priced_as(deployment))
    except UnknownNameError:
        return result | {"usd_per_gpu_h": None, "cost_usd": None, "usd_per_million_output_tokens": None}
    cost = price * deployment.gpus_total * duration / 3600
    per_million = cost / output * 1e6 if output else None
    return result | {"usd_per_gpu_h": price, "cost_usd": cost, "usd_per_million_output_tokens": per_million}
