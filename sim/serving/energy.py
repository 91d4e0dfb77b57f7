"""Energy of a serving run: watts of every GPU of the cluster, by what it does, over the time of the run.

Arithmetic is the model's own, counted for every row of every step: memory-bound kernels compute too, and a flop costs
its energy whatever sets the pace.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models.power import Activity, power_model
from hardware_models.specs import GpuSpec
from sim.power.clocks import AwakeJoules
from sim.serving.attribution import HOST, PORTION, Attribution
from sim.serving.deployment import Deployment
from sim.serving.shapes import by_shape, gpus_used, ranks_of
from workloads.models.architecture import ModelArchitecture
from workloads.models.operators import Dtypes, LayerRange, attention_shapes, split_layers
from workloads.models.weights import head_weights, layer_weights

Floats = NDArray[np.float64]

# Part of a step's overhead a sequence that is the GPU's: sampling, which sorts the logits of the vocabulary. Engines of
# which a step takes more a sequence spend the rest on the processor. Assumed: 128,256 keys at 3 to 4 billion a second.
SAMPLING_S_PER_SEQUENCE = 4.5e-5


@dataclass(frozen=True, slots=True)
class Work:
    """What one GPU of a pipeline stage did in each run of equal steps: (runs,) each."""

    seconds: Floats  # elapsed
    busy_s: Floats  # of these, with kernels running
    flop: Floats
    read_bytes: Floats  # weights and KV

    def activity(self, gpu: GpuSpec, dtype: str) -> Activity:
        """As rates; arithmetic in `dtype`."""
        seconds = np.where(self.seconds > 0.0, self.seconds, 1.0)
        return Activity(
            self.busy_s / seconds,
            self.flop / seconds / gpu.peak_flop_per_s[dtype],
            self.read_bytes / seconds / gpu.memory_bandwidth_bytes_per_s,
        )


@dataclass(frozen=True, slots=True)
class EnergyUse:
    """Joules from the first arrival to the last token."""

    replica_j: Floats  # of all GPUs of each replica: (replicas,)
    unused_j: float  # of the GPUs that serve nothing
    duration_s: float
    gpus: int
    gpus_used: int

    @property
    def energy_j(self) -> float:
        """Of the whole cluster."""
        return float(self.replica_j.sum()) + self.unused_j

    @property
    def mean_power_w_per_gpu(self) -> float:
        """Over all GPUs of the cluster."""
        return self.energy_j / (self.duration_s * self.gpus)

    @property
    def mean_power_w_per_gpu_used(self) -> float:
        """Over the GPUs of the replicas."""
        return float(self.replica_j.sum()) / (self.duration_s * self.gpus_used)


def work(runs: dict[str, Floats], deployment: Deployment, attribution: Attribution, index: int) -> Work:
    """What each GPU of pipeline stage `index` did in each run."""
    stage = deployment.stages[index]
    samples = runs["chunks"] + runs["decode_seqs"] + runs["padding_rows"]
    seconds = attribution.busy_s
    kernels = seconds - attribution.seconds[HOST]
    sampling = min(stage.host_s_per_sequence, SAMPLING_S_PER_SEQUENCE) * samples * runs["work_steps"]
    flop = stage_flop(runs, deployment, index)
    return Work(seconds, np.minimum(kernels + sampling, seconds), flop, attribution.read_bytes)


def stage_flop(runs: dict[str, Floats], deployment: Deployment, index: int) -> Floats:
    """Flop of each run on one GPU of pipeline stage `index`: (runs,)."""
    architecture, stages = deployment.architecture, len(deployment.stages)
    layers = split_layers(architecture.num_layers, stages)[index]
    tp = deployment.gpus_per_replica // stages
    a_row, a_sample = flop_per_row(architecture, layers, tp)
    steps = runs["work_steps"]
    sequences = runs["decode_seqs"] + runs["padding_rows"]
    linear = a_row * (runs["prefill_tokens"] + sequences)
    if layers.stop == layers.total:
        linear = linear + a_sample * (runs["chunks"] + sequences)
    return steps * linear + _attention_flop(runs, deployment, layers, tp)


@functools.lru_cache(maxsize=64)
def flop_per_row(architecture: ModelArchitecture, layers: LayerRange, tp: int) -> tuple[float, float]:
    """Flop of one row in the layers' products on one rank, and of one sampled row in the output head."""
    row = sum(
        2.0
        * layers.count(group)
        * sum(w.active_elements for w in layer_weights(architecture, group, tp) if w.multiplies)
        for group in architecture.groups
    )
    head = head_weights(architecture, tp, shares_embedding=False)
    return row, 2.0 * sum(weight.elements for weight in head if weight.multiplies)


def _attention_flop(runs: dict[str, Floats], deployment: Deployment, layers: LayerRange, tp: int) -> Floats:
    """Scores and values of decodes and chunks, whose contexts grow from step to step within a run."""
    steps = runs["work_steps"]
    later = np.maximum(0.0, 0.5 * steps * (steps - 1.0))
    new = runs["prefill_tokens"]
    flop = np.zeros(len(steps))
    for window, a_key, a_pair in _attention_rates(deployment.architecture, tp, layers, deployment.dtypes):
        context, growth, pairs, pair_growth = runs["context_tokens"], runs["decode_seqs"], runs["pairs"], new * new
        if window:
            context, growth, pairs = runs["window_context"], runs["window_growing"], runs["window_pairs"]
            pair_growth = np.where(runs["chunk_context"] - new < window - 1, pair_growth, 0.0)
        flop += a_key * (steps * context + growth * later)
        flop += a_pair * (steps * pairs + pair_growth * later)
    return flop


@functools.lru_cache(maxsize=64)
def _attention_rates(
    architecture: ModelArchitecture, tp: int, layers: LayerRange, dtypes: Dtypes
) -> list[tuple[int, float, float]]:
    """Of each group of equal layers: window (0: none), flop a key that a decode sees, flop a pair of prompts."""
    rates = []
    for shape in attention_shapes(architecture, tp, layers):
        decode = shape.decode_op(sequences=1.0, kv_tokens=1.0, dtypes=dtypes)
        prefill = shape.prefill_op(pairs=1.0, queries=1.0, kv_tokens=1.0, dtypes=dtypes)
        rates.append((shape.window or 0, shape.layers * float(decode.flop), shape.layers * float(prefill.flop)))
    return rates


def run_watts(runs: dict[str, Floats], deployment: Deployment, attribution: Attribution, index: int) -> Floats:
    """Mean watts of one GPU of pipeline stage `index` in the time it spent on each run: (runs,)."""
    if deployment.others:
        return by_shape(runs, deployment, attribution, lambda r, d, a: run_watts(r, d, a, index))
    model, dtype, count = power_model(deployment.gpu), deployment.dtypes.activation, len(runs["clock"])
    watts = np.empty(count)
    for begin in range(0, count, PORTION):
        part = slice(begin, begin + PORTION)
        portion = {name: column[part] for name, column in runs.items()}
        done = work(portion, deployment, attribution.part(part), index)
        watts[part] = model.watts(done.activity(deployment.gpu, dtype), portion["clock"])
    return watts


def energy_use(
    deployment: Deployment,
    runs: dict[str, Floats],
    attributions: list[Attribution],
    replicas: int,
    begin_s: float,
    duration_s: float,
    awake: AwakeJoules | None = None,
) -> EnergyUse:
    """Energy of a run from begin_s on. Between steps a replica's GPUs are awake; unused GPUs are idle.

    awake: of GPUs whose clocks are not at boost.
    """
    model = power_model(deployment.gpu)
    ranks = ranks_of(deployment, replicas) // len(attributions)
    replica = runs["replica"].astype(np.int64)
    joules = np.zeros(replicas)
    for index, attribution in enumerate(attributions):
        elapsed = attribution.busy_s
        active = np.bincount(replica, run_watts(runs, deployment, attribution, index) * elapsed, replicas)
        waiting = duration_s - np.bincount(replica, elapsed, replicas)
        waiting_j = model.awake_w * waiting
        if awake is not None:
            every, start_s = np.arange(replicas), runs["start_s"]
            ends = (awake.until(every, np.full(replicas, at)) for at in (begin_s, begin_s + duration_s))
            busy = awake.until(replica, start_s + elapsed) - awake.until(replica, start_s)
            waiting_j = -np.subtract(*ends) - np.bincount(replica, busy, replicas)
        joules += ranks * (active + waiting_j)
    used = gpus_used(deployment, replicas)
    unused_s = (deployment.gpus_total - used) * duration_s
    if awake is not None:
        held_s = awake.held_s(np.array([begin_s, begin_s + duration_s]))[:, 0]
        unused_s += used * duration_s - float(np.dot(ranks_of(deployment, replicas), held_s))
    unused_j = model.idle_w * unused_s
    return EnergyUse(joules, unused_j, duration_s, deployment.gpus_total, used)


def energy_summary(
    deployment: Deployment,
    runs: dict[str, Floats],
    attributions: list[Attribution],
    replicas: int,
    begin_s: float,
    duration_s: float,
    output_tokens: int,
    awake: AwakeJoules | None = None,
) -> dict[str, float | None]:
    """Entries of a summary; None where nothing finished."""
    if not duration_s > 0.0:
        names = ("energy_j", "energy_j_per_output_token", "mean_power_w_per_gpu", "mean_power_w_per_gpu_used")
        return dict.fromkeys(names)
    use = energy_use(deployment, runs, attributions, replicas, begin_s, duration_s, awake)
    return {
        "energy_j": use.energy_j,
        "energy_j_per_output_token": use.energy_j / output_tokens if output_tokens else None,
        "mean_power_w_per_gpu": use.mean_power_w_per_gpu,
        "mean_power_w_per_gpu_used": use.mean_power_w_per_gpu_used,
    }
