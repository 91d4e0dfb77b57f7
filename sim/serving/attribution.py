"""Where the time went: every second of every stage is compute, memory, network, host or idle, and sums to the elapsed
time; and how unsure it is, by what it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sim.serving.row_costs import BOUNDS, FACTORS
from sim.serving.step_cost import Parts, StageCost

Floats = NDArray[np.float64]
COMPUTE, MEMORY, NETWORK, HOST = range(len(BOUNDS))
ATTENTION = ("attention_prefill", "attention_decode")  # factors of FACTORS


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each run did on one rank of one stage, summed over its steps."""

    seconds: Floats  # by bound: (bounds, runs)
    unsure_s: Floats  # seconds times the standard deviation of their logarithm: (factors, runs)
    read_bytes: Floats  # weights and KV, from the rank's memory: (runs,)
    elastic_s: Floats  # seconds that grow with the load: decoding sequences' own, and all of prompts: (runs,)
    attention_s: Floats  # of busy_s, attention of prompts and of decoding sequences: (ATTENTION, runs)

    @property
    def busy_s(self) -> Floats:
        """Of each run: (runs,)."""
        return np.asarray(self.seconds.sum(axis=0))

    @property
    def bound_by(self) -> NDArray[np.int64]:
        """Index into BOUNDS of what took most of each run: (runs,)."""
        return np.asarray(np.argmax(self.seconds, axis=0))

    def part(self, which: slice) -> Attribution:
        """Of some of the runs."""
        return Attribution(*(getattr(self, name)[..., which] for name in FIELDS))


FIELDS = tuple(field.name for field in fields(Attribution))
PORTION = 250_000  # runs attributed at once: what is in the making takes no more memory than what is made
PRICED_BY = (  # columns of runs that say what they cost
    "work_steps", "prefill_tokens", "chunks", "pairs", "chunk_context", "decode_seqs", "padding_rows",
    "context_tokens", "window_context", "window_growing", "window_pairs", "window_chunk_context", "copy_s",
    "transfer_s",
)  # fmt: skip


class _Tally:
    """Sums over the operators of a stage, for all runs at once."""

    def __init__(self, stage: StageCost, steps: Floats, rows: NDArray[np.int64], samples: NDArray[np.int64]) -> None:
        first, unsure, read = stage.rows.prices(rows, samples)
        self.steps = steps
        self.later = np.maximum(0.0, 0.5 * steps * (steps - 1.0))
        self.linear_s = first.sum(axis=0)
        self.first_s = self.linear_s.copy()
        self.seconds = first * steps
        self.unsure = unsure * steps
        self.read = read * steps
        self.elastic = np.zeros(len(steps))
        self.attention = np.zeros((len(ATTENTION), len(steps)))

    def add(self, factor: str, at: NDArray[np.int64], parts: Parts, pair_growth: Floats, key_growth: Floats) -> None:
        """One attention kernel in the runs `at`, whose pairs and keys grow from step to step."""
        growth = parts.s_per_pair * pair_growth + parts.s_per_key * key_growth
        busy = self.steps[at] * parts.busy_s + growth * self.later[at]
        launch = self.steps[at] * parts.launch_s
        self.first_s[at] += parts.launch_s + parts.busy_s
        self.seconds[COMPUTE, at] += np.where(parts.compute_bound, busy, 0.0)
        self.seconds[MEMORY, at] += np.where(parts.compute_bound, 0.0, busy)
        self.seconds[HOST, at] += launch
        self.unsure[FACTORS.index(factor), at] += (busy + launch) * parts.sigma
        self.elastic[at] += busy
        self.attention[ATTENTION.index(factor), at] += busy + launch


def attribute_stages(runs: dict[str, Floats], stages_at: Callable[[float], list[StageCost]]) -> list[Attribution]:
    """Split the time of each run, one attribution a stage, by the prices at the clock that each run had."""
    clocks, which = np.unique(runs["clock"], return_inverse=True)
    count = len(which)
    if len(clocks) < 2 and count <= PORTION:
        stages = stages_at(float(clocks[0]) if len(clocks) else 1.0)
        return [attribute(runs, stage, first_stage=i == 0) for i, stage in enumerate(stages)]
    result = [_room(count) for _ in stages_at(float(clocks[0]))]
    order = np.argsort(which, kind="stable")
    edges = np.searchsorted(which[order], np.arange(len(clocks) + 1))
    for clock, first, last in zip(clocks.tolist(), edges, edges[1:], strict=False):
        for begin in range(first, last, PORTION):
            chosen = order[begin : min(begin + PORTION, last)]
            portion = {name: runs[name][chosen] for name in PRICED_BY}
            for i, (whole, stage) in enumerate(zip(result, stages_at(clock), strict=True)):
                found = attribute(portion, stage, first_stage=i == 0)
                for name in FIELDS:
                    getattr(whole, name)[..., chosen] = getattr(found, name)
    return result


def _room(count: int) -> Attribution:
    """To be filled for so many runs."""
    return Attribution(
        np.empty((len(BOUNDS), count)), np.empty((len(FACTORS), count)), np.empty(count), np.empty(count),
        np.empty((len(ATTENTION), count)),
    )  # fmt: skip


def joined(parts: Sequence[Attribution], order: NDArray[np.intp]) -> Attribution:
    """Of all runs, from those of each clock or shape; `order` sorts these one after another."""
    columns = (np.concatenate([getattr(part, name) for part in parts], axis=-1)[..., order] for name in FIELDS)
    return Attribution(*columns)


def attribute(runs: dict[str, Floats], stage: StageCost, first_stage: bool) -> Attribution:
    """Split the time of each run on one stage by what bounded it.

    Within a run no operator changes its bound, so the first step decides for all. Copying KV blocks counts as
    network, and so does a stage's idle time while its input is on its way; both are booked on the first stage.
    """
    steps = runs["work_steps"]
    chunks, new, decodes = (runs[name].astype(np.int64) for name in ("chunks", "prefill_tokens", "decode_seqs"))
    samples = chunks + decodes + runs["padding_rows"].astype(np.int64)
    tally = _Tally(stage, steps, samples - chunks + new, samples)
    for terms, company in ((stage.decode, new == 0), (stage.mixed_decode, new > 0)):
        at = np.flatnonzero(company & (decodes > 0))
        for term in terms if len(at) else ():
            context = runs["window_context" if term.windowed else "context_tokens"][at]
            growth = runs["window_growing" if term.windowed else "decode_seqs"][at]
            tally.add("attention_decode", at, term.parts(decodes[at], context), growth, growth)
            tally.read[at] += term.read_bytes(steps[at] * context + growth * tally.later[at])
    at = np.flatnonzero(new > 0)
    for part in stage.prefill if len(at) else ():
        pairs = runs["window_pairs" if part.windowed else "pairs"][at]
        keys = runs["window_chunk_context" if part.windowed else "chunk_context"][at]
        growing = runs["prefill_tokens"][at]
        if part.windowed:
            growing = np.where(runs["chunk_context"][at] - growing < stage.window - 1, growing, 0.0)
        tally.add("attention_prefill", at, part.parts(new[at], chunks[at], pairs, keys), growing * growing, growing)
        tally.read[at] += part.read_bytes(steps[at] * keys + growing * tally.later[at])
    seconds = tally.seconds
    floor = np.where(new > 0, stage.eager_floor_s, stage.decode_floor_s)
    waiting = np.where(tally.first_s < floor, steps * floor - seconds.sum(axis=0), 0.0)
    host = waiting + steps * (stage.host_s_per_step + stage.host_s_per_sequence * samples)
    seconds[HOST] += host
    tally.unsure[FACTORS.index("host")] += host * stage.host_sigma
    without = (samples - chunks)[at]  # rows and samples of the same steps without their chunks
    prompts = tally.linear_s[at] - stage.rows.by_bound(without, without).sum(axis=0)
    tally.elastic[at] += steps[at] * prompts
    tally.elastic += steps * stage.host_s_per_sequence * samples
    if first_stage:
        seconds[NETWORK] += runs["copy_s"] + runs["transfer_s"]
    return Attribution(seconds, tally.unsure, tally.read, tally.elastic, tally.attention)
