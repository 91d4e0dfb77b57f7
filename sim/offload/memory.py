"""What each tier holds over an executed step: its own pool and all its buffers together."""

from __future__ import annotations

from policies.offload.writer import HELD, OF
from policies.task_graph import TaskGraph
from sim.graph.memory import MemoryLedger, Peak
from sim.graph.times import Times


def tier_peaks(graph: TaskGraph, times: Times) -> dict[str, Peak]:
    """Tier -> the first moment at which it holds the most."""
    names = [pool.name.partition(OF)[0] for pool in graph.pools]
    usage = MemoryLedger(graph, joined=[names.index(name) for name in names]).usage(times)
    return {name: usage.peak(names.index(name)) for name in dict.fromkeys(names) if not name.startswith(HELD)}
