"""What each tier holds over an executed step: its own pool and all its buffers together."""

from __future__ import annotations

from dataclasses import replace

from policies.offload.writer import OF
from policies.task_graph import Pool, TaskGraph
from sim.graph.memory import MemoryLedger, Peak
from sim.graph.times import Times


def by_tier(graph: TaskGraph) -> TaskGraph:
    """The same graph, its pools joined tier by tier, without budgets."""
    names = [pool.name.partition(OF)[0] for pool in graph.pools]
    tiers = list(dict.fromkeys(names))
    memory = [replace(change, pool=tiers.index(names[change.pool])) for change in graph.memory]
    return replace(graph, pools=[Pool(0, tier) for tier in tiers], memory=memory)


def tier_peaks(graph: TaskGraph, times: Times) -> dict[str, Peak]:
    """Tier -> the first moment at which it holds the most."""
    joined = by_tier(graph)
    usage = MemoryLedger(joined).usage(times)
    return {pool.name: usage.peak(number) for number, pool in enumerate(joined.pools)}
