"""Where the time went: every second of every stage is compute, memory, network, host or idle, and sums to the elapsed
time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.serving.row_costs import BOUNDS
from sim.serving.step_cost import AttentionCost, StageCost

Floats = NDArray[np.float64]
COMPUTE, MEMORY, NETWORK, HOST = range(len(BOUNDS))


@dataclass(frozen=True, slots=True)
class Attribution:
    """Seconds by bound: (4, runs), summed over a run's steps, for one stage."""

    seconds: Floats

    @property
    def busy_s(self) -> Floats:
        """Of each run: (runs,)."""
        return np.asarray(self.seconds.sum(axis=0))

    @property
    def bound_by(self) -> NDArray[np.int64]:
        """Index into BOUNDS of what took most of each run: (runs,)."""
        return np.asarray(np.argmax(self.seconds, axis=0))


def attribute(runs: dict[str, Floats], stage: StageCost, first_stage: bool) -> Attribution:
    """Split the time of each run on one stage by what bounded it.

    Within a run no operator changes its bound, so the first step decides for all. Copying KV blocks counts as
    network.
    """
    steps = runs["iterations"]
    samples = (runs["chunks"] + runs["decode_seqs"] + runs["padding_rows"]).astype(np.int64)
    rows = (runs["prefill_tokens"] + runs["decode_seqs"] + runs["padding_rows"]).astype(np.int64)
    seconds = stage.rows.by_bound(rows, samples) * steps
    first_s = stage.rows.by_bound(rows, samples).sum(axis=0)
    has_decode, has_prefill = runs["decode_seqs"] > 0, runs["prefill_tokens"] > 0
    for part in stage.decode:
        context = runs["window_context"] if part.windowed else runs["context_tokens"]
        growth = runs["window_growing"] if part.windowed else runs["decode_seqs"]
        first_s += _add(seconds, part, has_decode, steps, context, growth, context, growth, runs["decode_seqs"])
    for part in stage.prefill:
        new = runs["prefill_tokens"]
        if part.windowed:
            pairs, kv = runs["window_pairs"], runs["window_chunk_context"]
            inside = runs["chunk_context"] - new < stage.window - 1
            growth, pair_growth = np.where(inside, new, 0.0), np.where(inside, new * new, 0.0)
        else:
            pairs, kv = runs["pairs"], runs["chunk_context"]
            growth, pair_growth = new, new * new
        first_s += _add(seconds, part, has_prefill, steps, pairs, pair_growth, kv, growth, new)
    floor = np.where(has_prefill, stage.eager_floor_s, stage.decode_floor_s)
    seconds[HOST] += np.where(first_s < floor, steps * floor - seconds.sum(axis=0), 0.0)
    seconds[HOST] += steps * (stage.host_s_per_step + stage.host_s_per_sequence * samples)
    if first_stage:
        seconds[NETWORK] += runs["copy_s"]
    return Attribution(seconds)


def _add(
    seconds: Floats,
    part: AttentionCost,
    present: NDArray[np.bool_],
    steps: Floats,
    pairs: Floats,
    pair_growth: Floats,
    kv: Floats,
    kv_growth: Floats,
    queries: Floats,
) -> Floats:
    """Add one attention kernel's time to `seconds`: (4, runs); returns its time in the first step: (runs,)."""
    later = 0.5 * steps * (steps - 1.0)
    compute = part.compute_s_per_pair * pairs
    memory = part.memory_s_per_kv_token * kv + part.memory_s_per_query * queries
    compute_bound = compute > memory
    compute_total = steps * compute + part.compute_s_per_pair * pair_growth * later
    memory_total = steps * memory + part.memory_s_per_kv_token * kv_growth * later
    seconds[COMPUTE] += np.where(present & compute_bound, compute_total, 0.0)
    seconds[MEMORY] += np.where(present & ~compute_bound, memory_total, 0.0)
    seconds[HOST] += np.where(present, steps * part.launch_s, 0.0)
    return np.where(present, part.launch_s + np.maximum(compute, memory), 0.0)
