"""What every task graph must be before anybody runs it; a graph that is not is the mistake of the policy behind it."""

from __future__ import annotations

from itertools import chain
from math import inf, isclose, isfinite

import numpy as np

from hardware_models.errors import FleetcastError
from policies.task_graph import NO_STREAM, TaskGraph, Transfer

ALONE = 1e-9  # relative: by how much a transfer's duration may differ from its bytes over its links


def check_graph(graph: TaskGraph) -> None:
    """Columns of one length, streams, tasks, pools and links that are there, times and bytes that are numbers.

    Raises FleetcastError naming the task.
    """
    tasks = len(graph)
    columns = (graph.duration_s, graph.after, graph.kind, graph.name, graph.priority)
    if any(len(column) != tasks for column in columns):
        raise FleetcastError(
            f"a task graph of {tasks} tasks has columns of other lengths; add tasks with TaskGraph.add"
        )
    check_durations(graph.duration_s)
    if tasks and not NO_STREAM <= min(graph.stream) <= max(graph.stream) < len(graph.streams):
        task = next(t for t, stream in enumerate(graph.stream) if not NO_STREAM <= stream < len(graph.streams))
        raise FleetcastError(f"{task_name(graph, task)}: stream {graph.stream[task]} is none of {len(graph.streams)}")
    others = np.fromiter(chain.from_iterable(graph.after), dtype=np.int64)
    if len(others) and not 0 <= others.min() <= others.max() < tasks:
        task = next(t for t, after in enumerate(graph.after) if not all(0 <= other < tasks for other in after))
        raise FleetcastError(f"{task_name(graph, task)} waits for {graph.after[task]}, but there are {tasks} tasks")
    for change in graph.memory:
        if not 0 <= change.task < tasks or not 0 <= change.pool < len(graph.pools) or not isfinite(change.change_bytes):
            raise FleetcastError(f"{change}: needs one of {tasks} tasks, one of {len(graph.pools)} pools, finite bytes")
    alone: dict[tuple[int, ...], float] = {}  # of links crossed together
    for task, transfer in graph.transfer.items():
        if transfer.links not in alone:
            _check_links(graph, task, transfer.links)
            alone[transfer.links] = alone_bytes_per_s(graph, transfer)
        _check_transfer(graph, task, transfer, alone[transfer.links])


def check_durations(durations_s: list[float]) -> None:
    """Finite, none below zero; raises FleetcastError naming the task's index."""
    if durations_s and not (min(durations_s) >= 0 and isfinite(sum(durations_s))):
        for task, duration_s in enumerate(durations_s):
            if duration_s < 0 or not isfinite(duration_s):
                raise FleetcastError(f"task {task} lasts {duration_s} s; a duration is finite and not below zero")


def task_name(graph: TaskGraph, task: int) -> str:
    """A task in words, for messages: its index, its name and where it runs."""
    stream = graph.stream[task]
    where = f" on {stream_name(graph, stream)}" if 0 <= stream < len(graph.streams) else ""
    return f"task {task} '{graph.name[task]}'{where}"


def stream_name(graph: TaskGraph, stream: int) -> str:
    """A stream in words, for messages."""
    return f"stream '{graph.streams[stream].name}' of device {graph.streams[stream].device}"


def pool_name(graph: TaskGraph, pool: int) -> str:
    """A pool in words, for messages."""
    return f"pool '{graph.pools[pool].name}' of device {graph.pools[pool].device}"


def alone_bytes_per_s(graph: TaskGraph, transfer: Transfer) -> float:
    """The rate of a transfer that meets no other: its slowest link's, shared by as many times as it crosses it."""
    return min(graph.links[link].bytes_per_s / transfer.links.count(link) for link in transfer.links)


def _check_links(graph: TaskGraph, task: int, links: tuple[int, ...]) -> None:
    if not links or not all(0 <= link < len(graph.links) for link in links):
        what = task_name(graph, task) if 0 <= task < len(graph) else f"a transfer of task {task}"
        raise FleetcastError(f"{what} crosses links {links}, but there are {len(graph.links)}")
    for link in links:
        if not 0 < graph.links[link].bytes_per_s < inf:
            raise FleetcastError(f"link '{graph.links[link].name}' carries {graph.links[link].bytes_per_s} bytes/s")


def _check_transfer(graph: TaskGraph, task: int, transfer: Transfer, bytes_per_s: float) -> None:
    if not 0 <= task < len(graph):
        raise FleetcastError(f"a transfer belongs to task {task}, but there are {len(graph)} tasks")
    alone_s, duration_s = transfer.latency_s + transfer.size_bytes / bytes_per_s, graph.duration_s[task]
    if alone_s != duration_s and not isclose(alone_s, duration_s, rel_tol=ALONE, abs_tol=0.0):
        raise FleetcastError(
            f"{task_name(graph, task)} lasts {duration_s} s but takes {alone_s} s alone on its links; "
            "a transfer's duration is latency + size / slowest link"
        )
