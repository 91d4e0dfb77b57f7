"""What a run leaves behind: one row a request, one row a run of equal steps; kept in flat arrays while the clock
runs.
"""

from __future__ import annotations

from array import array
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from policies.serving import Sequence
from workloads.request import RequestTable

# One row a run of `iterations` steps of one composition: the i-th (from 0) takes first_s + i x slope_s. A step whose
# clock changes under way is a row a clock, which takes first_s; its last row counts as the iteration.
RUN_COLUMNS = (
    "replica",
    "lane",  # micro-batch slot, with pipeline parallelism
    "start_s",
    "first_s",
    "slope_s",
    "iterations",
    "prefill_tokens",  # a step
    "chunks",  # prompts or parts of prompts in a step
    "pairs",  # (query, key) pairs of the chunks in the first step
    "chunk_context",  # KV tokens the chunks read in the first step
    "decode_seqs",
    "padding_rows",  # rows of finished sequences still computed
    "context_tokens",  # KV tokens the decodes read in the first step
    "window_context",  # the same, each sequence capped at the model's sliding window
    "window_growing",  # sequences still below it
    "window_pairs",
    "window_chunk_context",
    "copy_s",  # swapping KV blocks, before the first step
    "transfer_s",  # of first_s, that pipeline stages stood still while their input was on its way
    "gap_s",  # time since the previous tokens of gap_seqs sequences when the first step ended
    "gap_seqs",
    "kv_blocks",  # in use when the run ended
    "waiting",  # requests queued when the run began
    "clock",  # core clock, a share of boost
    "work_steps",  # steps' worth of work: as many as iterations, or a part of one whose clock changed under way
)
Floats = NDArray[np.float64]
pack_run = Struct(f"{len(RUN_COLUMNS)}d").pack  # the values of one row, in the order of RUN_COLUMNS


class RunLog:
    """Runs in the order in which they were committed."""

    def __init__(self) -> None:
        self.rows = bytearray()  # packed by pack_run: a third of the time of an array, a tenth of a list's memory
        self.joiner_gaps = array("d")  # gaps before a sequence's first decode step and its token after a recomputation
        self.joiner_waits_s = 0.0  # what of these gaps is not the step that the token came out of

    def columns(self) -> dict[str, Floats]:
        """Column name to values: (runs,)."""
        return run_columns(self.rows)


def run_columns(rows: bytes | bytearray) -> dict[str, Floats]:
    """Column name to values, of rows packed by pack_run: (rows,)."""
    cells = np.frombuffer(rows, dtype=float).reshape(-1, len(RUN_COLUMNS))
    return {name: cells[:, i] for i, name in enumerate(RUN_COLUMNS)}


def run_seconds(runs: dict[str, Floats]) -> Floats:
    """How long each run lasted: (runs,)."""
    steps = np.maximum(runs["iterations"], 1.0)
    return np.asarray(runs["copy_s"] + steps * runs["first_s"] + 0.5 * steps * (steps - 1.0) * runs["slope_s"])


class RequestLog:
    """When each request was first scheduled, had its first and its last token; NaN until it happens."""

    def __init__(self, requests: RequestTable) -> None:
        count = len(requests.arrival_s)
        nan = array("d", [float("nan")]) * count
        self.requests = requests
        self.first_scheduled_s = array("d", nan)
        self.first_token_s = array("d", nan)
        self.finish_s = array("d", nan)
        self.max_gap_s = array("d", nan)
        self.preemptions = array("q", [0]) * count
        self.cached_tokens = array("q", [0]) * count
        self.replica = array("q", [-1]) * count
        self.finished = 0
        self.rejected: list[int] = []  # requests no engine of this size can ever hold

    def finish(self, sequence: Sequence, end_s: float, replica: int) -> None:
        """A sequence has all its tokens."""
        i = sequence.index
        self.first_scheduled_s[i] = sequence.first_scheduled_s
        self.first_token_s[i] = sequence.first_token_s
        self.finish_s[i] = end_s
        if sequence.output_tokens > 1:
            self.max_gap_s[i] = sequence.max_gap_s
        self.preemptions[i] = sequence.preemptions
        self.cached_tokens[i] = sequence.cached_tokens
        self.replica[i] = replica
        self.finished += 1
