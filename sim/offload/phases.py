"""A step as frameworks' own timers split it: forward, backward with what it waits for, and the optimizer's step."""

from __future__ import annotations

from policies.offload.writer import ADAM, BACKWARD, FORWARD, OPTIMIZER
from policies.task_graph import TaskGraph
from sim.graph.times import Times

UPDATES = (ADAM, OPTIMIZER)


def phase_seconds(graph: TaskGraph, times: Times, micro_batches: int) -> dict[str, float]:
    """Seconds of each, which sum to the step.

    A micro-batch's forward ends with its last layer's forward and its backward with its last layer's backward; the
    last backward ends when the first update may begin, but not before it has computed.
    """
    ends = {kind: _ends(graph, times, kind, micro_batches) for kind in (FORWARD, BACKWARD)}
    ends[BACKWARD] = ends[BACKWARD] or ends[FORWARD]  # zeroth order has none
    found = dict.fromkeys((FORWARD, BACKWARD), 0.0)
    before = 0.0
    for forward, backward in zip(ends[FORWARD], ends[BACKWARD], strict=True):
        found[FORWARD] += forward - before
        found[BACKWARD] += backward - forward
        before = backward
    begun = [times.start_s[task] for task, kind in enumerate(graph.kind) if kind in UPDATES]
    flushed = max(before, min(begun, default=before))
    found[BACKWARD] += flushed - before
    return found | {"step": times.makespan_s - flushed}


def _ends(graph: TaskGraph, times: Times, kind: str, micro_batches: int) -> list[float]:
    """When each micro-batch's passes of a kind end."""
    tasks = [task for task, name in enumerate(graph.kind) if name == kind]
    each = len(tasks) // micro_batches
    return [times.end_s[tasks[(batch + 1) * each - 1]] for batch in range(micro_batches)] if tasks else []
