"""The times of a task graph without a clock: a task starts at the latest end of those before it.

This is exact where streams are FIFO, budgets never bind and no transfers crowd a link; other graphs are refused.
A lower bound holds for any graph.
"""

from __future__ import annotations

from math import fsum, ulp

import numpy as np

from hardware_models.errors import FleetcastError
from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph.checks import ALONE, alone_bytes_per_s, pool_name, stream_name, task_name
from sim.graph.memory import ROUNDING, MemoryLedger
from sim.graph.order import NOTHING, Compiled, compile_graph
from sim.graph.times import Times

ROUNDED = 1e-12  # relative to makespan and bandwidth: what overlaps by no more than that does not
NETWORK_ULPS = 128  # by how much a network's clock may be off, a transfer
REMEDY = "run it on the clock (execute)"


def max_plus(graph: TaskGraph, compiled: Compiled | None = None) -> Times:
    """The same times as `execute`; `compiled` is the graph's own structure, if it has been compiled before.

    Raises FleetcastError where a stream is by priority, a budget could make a task wait, or transfers slow each other.
    """
    structure = compiled or compile_graph(graph)
    if structure.by_priority != NOTHING:
        raise FleetcastError(f"{stream_name(graph, structure.by_priority)} chooses by priority; {REMEDY}")
    times = structure.times(graph.duration_s)
    _check_budgets(graph, times)
    if crowd := crowded_link(graph, times):
        raise FleetcastError(f"{crowd}; {REMEDY}")
    return times


def lower_bound_s(graph: TaskGraph, compiled: Compiled | None = None) -> float:
    """Seconds that no execution undercuts: the longest path of tasks, or the busiest stream if that is longer.

    A stream runs one task at a time and a path one task after another, whatever the priorities, the memory and the
    links; both sums are taken down by as much as a clock's may be rounded down.
    """
    structure = compiled or compile_graph(graph)
    path_s = max(structure.longest_paths(graph.duration_s), default=0.0)
    durations: list[list[float]] = [[] for _ in graph.streams]
    for stream, duration_s in zip(graph.stream, graph.duration_s, strict=True):
        if stream != NO_STREAM:
            durations[stream].append(duration_s)
    busiest_s = max((fsum(row) * (1 - len(row) * ulp(1.0)) for row in durations), default=0.0)
    rounded = 2 * ALONE + len(graph.transfer) * NETWORK_ULPS * ulp(1.0) if graph.transfer else 0.0
    return max(path_s, busiest_s) * (1 - rounded)


def _check_budgets(graph: TaskGraph, times: Times) -> None:
    limited = [pool for pool, one in enumerate(graph.pools) if one.budget_bytes < float("inf")]
    if not limited or not graph.memory:
        return
    usage = MemoryLedger(graph).usage(times)
    for pool in limited:
        asked, budget = usage.most_asked(pool), graph.pools[pool].budget_bytes
        if asked > budget * (1 + ROUNDING / 2):
            raise FleetcastError(
                f"{pool_name(graph, pool)} is asked for {asked:,.0f} bytes at once and has {budget:,.0f}; {REMEDY}"
            )


def crowded_link(graph: TaskGraph, times: Times) -> str | None:
    """A link that would carry more than it can if each transfer were as fast as alone, in words; None: none would.

    Links that can carry all that cross them at once bind nobody (`sim.network.fair_share`).
    """
    on_link: dict[int, list[int]] = {}
    for task, transfer in sorted(graph.transfer.items()):
        for link in transfer.links:
            on_link.setdefault(link, []).append(task)
    for link, tasks in on_link.items():
        transfers = [graph.transfer[task] for task in tasks]
        rate = np.array([alone_bytes_per_s(graph, transfer) for transfer in transfers])
        first_s = np.array([times.start_s[task] for task in tasks]) + [transfer.latency_s for transfer in transfers]
        last_s = np.array([times.end_s[task] for task in tasks]) - ROUNDED * times.makespan_s
        flows = np.flatnonzero(first_s < last_s)
        order = np.lexsort((np.repeat([1, 0], len(flows)), np.append(first_s[flows], last_s[flows])))  # ends first
        load = np.cumsum(np.append(rate[flows], -rate[flows])[order])
        over = np.flatnonzero(load > graph.links[link].bytes_per_s * (1 + ROUNDED))
        if len(over):
            late = task_name(graph, tasks[flows[order[over[0]]]])
            return f"{late} meets other transfers on link '{graph.links[link].name}'"
    return None
