"""What a reader must know to trust a run's figures, in sentences."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.scenario import Scenario
from sim.serving.deployment import Deployment
from sim.serving.memory import GIB
from sim.serving.shapes import gpus_used
from sim.serving.simulate import ServingRun

OVERLOAD = 0.1  # of the arrivals' span: a queue that takes longer to empty has grown all along
WATTS_FOLLOW = ("gpu.memory_bandwidth_bytes_per_s", "gpu.peak_flop_per_s")  # full use of them draws shares of the TDP


def priced_as(deployment: Deployment) -> str:
    """The GPU whose list price counts: of a variation its original."""
    return deployment.gpu.variation_of or deployment.gpu.name


def notes(scenario: Scenario, run: ServingRun, columns: dict[str, Any], *, priced: bool) -> list[str]:
    """What a reader must know to trust the figures. priced: is there a list price?"""
    deployment, log = run.deployment, run.requests
    said = [*log.requests.notes, *_own_notes(deployment, priced=priced)]
    if deployment.extrapolated:
        said.append(
            f"{', '.join(deployment.extrapolated)}: of a size that no calibration of {deployment.gpu.name} saw; their"
            " error bars are doubled"
        )
    idle = deployment.gpus_total - gpus_used(deployment, len(run.replicas))
    if idle:
        said.append(f"{idle} of {deployment.gpus_total} GPUs serve nothing; they cost all the same")
    said += _left_out(scenario, deployment) + _undecided(scenario, run)
    if scenario.serving.enable_prefix_caching and log.requests.prefix_hashes is None:
        said.append(
            f"serving.enable_prefix_caching: {log.requests.source} does not say which prompts open alike, so that only"
            " preempted requests find KV again; the generator 'sessions' and Mooncake's traces say it"
        )
    memory, serving = deployment.memory, scenario.serving
    if memory.overridden and memory.kv_blocks > memory.blocks_that_fit:
        said.append(
            f"serving.num_gpu_blocks_override = {memory.kv_blocks} is more than the {memory.blocks_that_fit} KV blocks"
            f" for which there is memory: the figures are those of GPUs that can use {memory.peak_bytes / GIB:.1f} GiB,"
            f" these {memory.usable_bytes / GIB:.1f} GiB"
        )
    if spare := serving.max_num_seqs - serving.micro_batch_seqs * serving.pipeline_parallel_size:
        said.append(
            f"serving.max_num_seqs = {serving.max_num_seqs} is no multiple of serving.pipeline_parallel_size ="
            f" {serving.pipeline_parallel_size}: {spare} of the sequence slots stay empty"
        )
    if log.rejected:
        said.append(
            f"{len(log.rejected)} requests were rejected: longer than serving.max_model_len or than all KV blocks"
        )
    limit = deployment.architecture.max_position_embeddings
    table = log.requests
    longer = int(np.count_nonzero(table.prompt_tokens + table.output_tokens > limit))
    if scenario.serving.max_model_len is None and longer:
        said.append(
            f"{longer} requests exceed the {limit} positions {deployment.architecture.name} was trained for; they are"
            " served all the same (set serving.max_model_len to reject them)"
        )
    return said + _workload_notes(scenario, columns)


def _left_out(scenario: Scenario, deployment: Deployment) -> list[str]:
    """Tensor-parallel sizes that a scaler could not choose."""
    if scenario.power is None or scenario.power.scaler is None:
        return []
    there = {deployment.gpus_per_replica, *(shape.deployment.gpus_per_replica for shape in deployment.others)}
    asked = scenario.power.scaler.keys.get("tensor_parallel_sizes", ())
    return [
        f"power.scaler.tensor_parallel_sizes: {size} is left out, since so few GPUs do not hold the model and the KV of"
        " the longest request"
        for size in asked
        if size not in there
    ]


def _undecided(scenario: Scenario, run: ServingRun) -> list[str]:
    """A scaler that never decided."""
    power = scenario.power
    if power is None or run.power is None or run.power.scaler is None or run.power.scaler.plans:
        return []
    return [
        "power.scaler decided nothing, and all replicas served: the run was over, or nothing came, before it could look"
        f" at a load of power.scaler_window_s = {power.scaler_window_s:g} s, which it does every"
        f" power.sharding_period_s = {power.sharding_period_s:g} s; shorten both, or serve for longer"
    ]


def _workload_notes(scenario: Scenario, columns: dict[str, Any]) -> list[str]:
    """Where the demand exceeds what is sustained, and where there are too few requests to judge."""
    arrival, queue = columns["arrival_s"], columns["queue_s"]
    said = []
    span_s = float(arrival.max() - arrival.min())
    started = (arrival + queue)[np.isfinite(queue)]
    late_s = float(started.max() - arrival.max()) if len(started) else 0.0
    if span_s > 0 and late_s > OVERLOAD * span_s:
        said.append(
            f"the queue took {late_s:,.0f} s to empty after {span_s:,.0f} s of arrivals: the demand is more than this"
            " deployment sustains, and latencies grow with the length of the workload"
        )
    percentile, limits = scenario.slo.percentile, scenario.slo.model_dump(exclude_none=True, exclude={"percentile"})
    if limits and len(arrival) * (1.0 - percentile / 100.0) < 1.0 and percentile < 100.0:
        said.append(
            f"p{percentile:g} of {len(arrival):,} requests is the largest of them, which chance decides; the intervals"
            " are of the calibration alone: simulate more requests"
        )
    return said


def _own_notes(deployment: Deployment, *, priced: bool) -> list[str]:
    """What other figures than the catalog's do not change, of the user's own hardware."""
    if not deployment.own_figures:
        return []
    name, notes = priced_as(deployment), []
    if priced:
        notes.append(f"the hardware has figures of its own; cost is at the list price of {name} all the same")
    if deployment.gpu.variation_of is not None and any(key.startswith(WATTS_FOLLOW) for key in deployment.own_figures):
        notes.append(
            f"at full bandwidth and arithmetic the GPU is taken to draw what {name} draws, whatever they are: joules a"
            " byte and a flop change with them"
        )
    return notes
