"""An executed graph as a Chrome trace: devices with their streams as lanes, tasks as slices, memory as counters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph.memory import MemoryLedger
from sim.graph.times import Times
from sim.trace_file import MAX_EVENTS, cut_here, write_events

COLOURS = (  # names that the format knows, told apart by eye; kinds take them by name
    "thread_state_running",
    "thread_state_iowait",
    "rail_animation",
    "rail_response",
    "thread_state_runnable",
    "rail_idle",
    "cq_build_attempt_failed",
    "generic_work",
    "grey",
    "rail_load",
)


def write_graph_trace(graph: TaskGraph, times: Times, path: Path) -> int:
    """Write the timeline (gzipped where the name ends in .gz); returns how many events it holds.

    Times are microseconds, as the format wants. Tasks of no stream occupy nothing and have no lane. Beyond MAX_EVENTS
    the end is cut and the trace says when.
    """
    return write_events(path, _events(graph, times))


def _events(graph: TaskGraph, times: Times) -> Iterator[dict[str, Any]]:
    count = 0
    for event in _lanes(graph):
        yield event
        count += 1
    slices = [task for task, stream in enumerate(graph.stream) if stream != NO_STREAM]
    counters = list(_counters(graph, times))
    moments_s = [times.start_s[task] for task in slices] + [t_s for _, t_s, _ in counters]
    colours = {kind: COLOURS[number % len(COLOURS)] for number, kind in enumerate(sorted(set(graph.kind)))}
    for number in np.argsort(np.array(moments_s), kind="stable").tolist():
        if count >= MAX_EVENTS:
            yield cut_here(moments_s[number] * 1e6, MAX_EVENTS)
            return
        if number < len(slices):
            yield _slice(graph, times, slices[number], colours)
        else:
            yield _counter(graph, *counters[number - len(slices)])
        count += 1


def _lanes(graph: TaskGraph) -> Iterator[dict[str, Any]]:
    devices = sorted({stream.device for stream in graph.streams} | {pool.device for pool in graph.pools})
    for device in devices:
        yield {"ph": "M", "name": "process_name", "pid": device, "args": {"name": f"device {device}"}}
        yield {"ph": "M", "name": "process_sort_index", "pid": device, "args": {"sort_index": device}}
    for number, stream in enumerate(graph.streams):
        place = {"pid": stream.device, "tid": number}
        yield {"ph": "M", "name": "thread_name", **place, "args": {"name": stream.name}}
        yield {"ph": "M", "name": "thread_sort_index", **place, "args": {"sort_index": number}}


def _slice(graph: TaskGraph, times: Times, task: int, colours: dict[str, str]) -> dict[str, Any]:
    """Perfetto colours slices by their name without its numbers, Chrome by `cname`: both tell kinds apart.

    Times are whole nanoseconds, as Perfetto keeps them, so that no slice reaches into the next of its lane.
    """
    kind, name, stream = graph.kind[task], graph.name[task], graph.stream[task]
    start_us, end_us = round(times.start_s[task] * 1e6, 3), round(times.end_s[task] * 1e6, 3)
    return {
        "ph": "X",
        "name": name if name.startswith(kind) else f"{kind} {name}",
        "cat": kind,
        "cname": colours[kind],
        "pid": graph.streams[stream].device,
        "tid": stream,
        "ts": start_us,
        "dur": round(end_us - start_us, 3),
        "args": {"task": task},
    }


def _counters(graph: TaskGraph, times: Times) -> Iterator[tuple[int, float, float]]:
    """Pool, instant in seconds, and the bytes it holds from then on."""
    usage = MemoryLedger(graph).usage(times)
    for pool in range(len(graph.pools)):
        t_s, used = usage.profile(pool)
        for at_s, held in zip(t_s.tolist(), used.tolist(), strict=True):
            yield pool, at_s, held


def _counter(graph: TaskGraph, pool: int, t_s: float, used_bytes: float) -> dict[str, Any]:
    one = graph.pools[pool]
    return {"ph": "C", "name": one.name, "pid": one.device, "ts": t_s * 1e6, "args": {"used_bytes": used_bytes}}
