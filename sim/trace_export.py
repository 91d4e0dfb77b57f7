"""A run as a Chrome trace, which ui.perfetto.dev opens: steps as slices, batch and memory as counters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sim.result import Result
from sim.serving.results import expand_steps
from sim.stored_run import StoredRun
from sim.trace_file import MAX_EVENTS, cut_here, write_events


def write_chrome_trace(result: Result | StoredRun, path: Path) -> int:
    """Write the timeline (gzipped where the name ends in .gz); returns how many events it holds.

    Times are microseconds, as the format wants. Runs of equal steps are drawn step by step as long as everything
    stays below MAX_EVENTS, else as one slice a run; beyond that the end is cut and the trace says when.
    """
    return write_events(path, _events(result))


def _events(result: Result | StoredRun) -> Iterator[dict[str, Any]]:
    steps = result.steps
    if 3 * int(steps["iterations"].sum()) <= MAX_EVENTS:
        steps = expand_steps(steps)
    for replica in sorted(steps["replica"].unique().tolist()):
        yield {"ph": "M", "name": "process_name", "pid": replica, "args": {"name": f"replica {replica}"}}
    for replica, lane in sorted(set(zip(steps["replica"].tolist(), steps["lane"].tolist(), strict=True))):
        yield {"ph": "M", "name": "thread_name", "pid": replica, "tid": lane, "args": {"name": f"micro-batch {lane}"}}
    for made, row in enumerate(zip(*(steps[column].tolist() for column in Row._fields), strict=True)):
        if 3 * made > MAX_EVENTS:
            yield cut_here(Row(*row).start_s * 1e6, MAX_EVENTS)
            return
        yield from _step_events(Row(*row))


class Row(NamedTuple):
    """What the timeline shows of a row of steps."""

    replica: int
    lane: int
    start_s: float
    duration_s: float
    iterations: int
    prefill_tokens: int
    decode_seqs: int
    context_tokens: int
    kv_blocks: int  # at the end
    waiting: int  # at the beginning
    bound_by: str


def _step_events(row: Row) -> Iterator[dict[str, Any]]:
    ts, dur = row.start_s * 1e6, row.duration_s * 1e6
    kind = "mixed" if row.prefill_tokens and row.decode_seqs else "prefill" if row.prefill_tokens else "decode"
    details = {
        "prefill_tokens": row.prefill_tokens,
        "decode_seqs": row.decode_seqs,
        "steps": row.iterations,
        "context_tokens": row.context_tokens,
        "bound_by": row.bound_by,
    }
    place = {"pid": row.replica, "tid": row.lane}
    yield {"ph": "X", "name": kind, "cat": row.bound_by, **place, "ts": ts, "dur": dur, "args": details}
    yield {"ph": "C", "name": "queue", "pid": row.replica, "ts": ts, "args": {"waiting": row.waiting}}
    yield {"ph": "C", "name": "kv_blocks", "pid": row.replica, "ts": ts + dur, "args": {"used": row.kv_blocks}}
