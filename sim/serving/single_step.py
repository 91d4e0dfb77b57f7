"""One step of a given composition, priced without a clock: what microbenchmarks of serving engines report."""

from __future__ import annotations

import numpy as np

from policies.serving import Sequence
from sim.serving.attribution import attribute
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.deployment import Deployment
from sim.serving.energy import run_watts
from sim.serving.record import RUN_COLUMNS


def step_seconds(
    deployment: Deployment,
    clock: float = 1.0,
    *,
    prefill_tokens: int,
    prefill_context: int,
    decode_seqs: int,
    decode_context: int,
) -> float:
    """Seconds of a step with one chunk and some decoding sequences of equal context, through all stages.

    clock: of the cores, a share of boost.
    """
    load, pool = _composition(deployment, prefill_tokens, prefill_context, decode_seqs, decode_context)
    seconds = sum(stage.price(load, decode_seqs, 0, pool)[0] for stage in deployment.stages_at(clock))
    return seconds + (len(deployment.stages) - 1) * deployment.transfer_s(prefill_tokens + decode_seqs)


def step_watts(
    deployment: Deployment,
    clock: float = 1.0,
    *,
    prefill_tokens: int,
    prefill_context: int,
    decode_seqs: int,
    decode_context: int,
) -> float:
    """Mean watts of a GPU of the first stage while it computes such a step."""
    load, pool = _composition(deployment, prefill_tokens, prefill_context, decode_seqs, decode_context)
    stage = deployment.stages_at(clock)[0]
    row = dict.fromkeys(RUN_COLUMNS, 0.0) | {
        "iterations": 1.0,
        "work_steps": 1.0,
        "clock": clock,
        "prefill_tokens": load.tokens,
        "chunks": load.chunks,
        "pairs": load.pairs,
        "chunk_context": load.context,
        "window_pairs": load.window_pairs,
        "window_chunk_context": load.window_context,
    }
    if decode_seqs:
        row |= {
            "decode_seqs": decode_seqs,
            "context_tokens": pool.context + decode_seqs,
            "window_context": pool.window_context + pool.window_growth,
            "window_growing": pool.window_growth,
        }
    runs = {name: np.array([value], dtype=float) for name, value in row.items()}
    stage.rows.grow(load.tokens + decode_seqs, load.chunks + decode_seqs)
    return float(run_watts(runs, deployment, attribute(runs, stage, first_stage=True), 0)[0])


def _composition(
    deployment: Deployment, prefill_tokens: int, prefill_context: int, decode_seqs: int, decode_context: int
) -> tuple[ChunkLoad, DecodePool]:
    window = deployment.limits.window
    load = ChunkLoad(window)
    if prefill_tokens:
        prompt = Sequence(0, 0.0, prefill_tokens + prefill_context, 1, 0, prefill_tokens + prefill_context)
        prompt.prefilled = prefill_context
        load.set([(prompt, prefill_tokens)])
    pool = DecodePool(deployment.limits.block_size, window)
    for index in range(decode_seqs):
        pool.join(Sequence(index, 0.0, decode_context, 2, 0, decode_context, generated=1), decode_context)
    return load, pool
