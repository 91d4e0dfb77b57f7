"""Why a graph came to a standstill: who waits for which memory, and who holds it."""

from __future__ import annotations

from hardware_models.errors import DoesNotFitError
from policies.task_graph import TaskGraph
from sim.graph.checks import pool_name, task_name
from sim.graph.order import NOTHING, stream_predecessors
from sim.graph.pools import Pools

NAMED = 3  # tasks and owners in a message


def stalled(graph: TaskGraph, pools: Pools, waits: list[int], ended: list[bool]) -> DoesNotFitError:
    """The error for a run in which every task that could start waits for memory; all that started have ended."""
    before = stream_predecessors(graph)
    parts: list[str] = []
    asking = 0
    for task, needs in sorted(pools.takes.items()):
        if ended[task] or waits[task] or (before[task] != NOTHING and not ended[before[task]]):
            continue
        asking += 1
        lacks = next(((pool, size) for pool, size in needs if not pools.has_room(pool, size)), None)
        if lacks is not None and len(parts) < NAMED:
            parts.append(f"{task_name(graph, task)} waits for {_shortage(graph, pools, ended, *lacks)}")
    more = f" ({asking} tasks wait)" if asking > len(parts) else ""
    return DoesNotFitError(
        f"no task can go on{more}: {'; '.join(parts)}; raise the budget, take less, or give back before more is taken"
    )


def _shortage(graph: TaskGraph, pools: Pools, ended: list[bool], pool: int, size: float) -> str:
    held: dict[str, float] = {}
    for change in graph.memory:
        if change.pool == pool and ended[change.task]:
            held[change.owner] = held.get(change.owner, 0.0) + change.change_bytes
    largest = sorted((item for item in held.items() if item[1] > 0), key=lambda item: (-item[1], item[0]))
    owners = ", ".join(f"{owner} {holds:,.0f}" for owner, holds in largest[:NAMED])
    return (
        f"{size:,.0f} bytes of {pool_name(graph, pool)}, which holds {pools.used[pool]:,.0f} of "
        f"{graph.pools[pool].budget_bytes:,.0f}" + (f" ({owners})" if owners else "")
    )
