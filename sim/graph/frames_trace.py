"""Frames of an executed graph, as a run folder keeps them, as a Chrome trace: what `write_graph_trace` writes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.graph.frames import NO_DEVICE
from sim.graph.trace import COLOURS
from sim.trace_file import MAX_EVENTS, cut_here, write_events

if TYPE_CHECKING:
    import pandas as pd

Lane = tuple[int, str]  # device and stream


def write_frames_trace(tasks: pd.DataFrame, memory: pd.DataFrame, path: Path) -> int:
    """Write the timeline (gzipped where the name ends in .gz); returns how many events it holds.

    tasks, memory: as of `sim.graph.frames`. Beyond MAX_EVENTS the end is cut and the trace says when.
    """
    return write_events(path, _events(tasks, memory))


def _events(tasks: pd.DataFrame, memory: pd.DataFrame) -> Iterator[dict[str, Any]]:
    shown = tasks[tasks["device"] != NO_DEVICE]
    lanes: dict[Lane, int] = {}
    for place in sorted(set(zip(shown["device"].tolist(), shown["stream"].tolist(), strict=True))):
        lanes[place] = len(lanes)
    count = 0
    for event in _lanes(lanes):
        yield event
        count += 1
    timed = [*_slices(shown, lanes, sorted(set(tasks["kind"]))), *_counters(memory)]
    for event in sorted(timed, key=lambda one: one["ts"]):
        if count >= MAX_EVENTS:
            yield cut_here(event["ts"], MAX_EVENTS)
            return
        yield event
        count += 1


def _lanes(lanes: dict[Lane, int]) -> Iterator[dict[str, Any]]:
    for device in sorted({device for device, _ in lanes}):
        yield {"ph": "M", "name": "process_name", "pid": device, "args": {"name": f"device {device}"}}
        yield {"ph": "M", "name": "process_sort_index", "pid": device, "args": {"sort_index": device}}
    for (device, stream), number in lanes.items():
        place = {"pid": device, "tid": number}
        yield {"ph": "M", "name": "thread_name", **place, "args": {"name": stream}}
        yield {"ph": "M", "name": "thread_sort_index", **place, "args": {"sort_index": number}}


def _slices(tasks: pd.DataFrame, lanes: dict[Lane, int], kinds: list[str]) -> Iterator[dict[str, Any]]:
    """Times are whole nanoseconds, as Perfetto keeps them, so that no slice reaches into the next of its lane."""
    colours = {kind: COLOURS[number % len(COLOURS)] for number, kind in enumerate(kinds)}
    columns = ("device", "stream", "name", "kind", "start_s", "end_s", "task")
    for device, stream, name, kind, start_s, end_s, task in zip(*(tasks[c].tolist() for c in columns), strict=True):
        start_us, end_us = round(start_s * 1e6, 3), round(end_s * 1e6, 3)
        yield {
            "ph": "X",
            "name": name if name.startswith(kind) else f"{kind} {name}",
            "cat": kind,
            "cname": colours[kind],
            "pid": device,
            "tid": lanes[device, stream],
            "ts": start_us,
            "dur": round(end_us - start_us, 3),
            "args": {"task": task},
        }


def _counters(memory: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Bytes that a pool holds from each instant on, of all owners together."""
    for (device, pool), rows in memory.groupby(["device", "pool"]):
        held = rows.pivot_table(index="t_s", columns="owner", values="used_bytes", aggfunc="last").ffill().sum(axis=1)
        for t_s, used in zip(held.index.tolist(), held.tolist(), strict=True):
            yield {"ph": "C", "name": pool, "pid": device, "ts": t_s * 1e6, "args": {"used_bytes": used}}
