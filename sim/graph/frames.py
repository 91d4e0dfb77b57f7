"""An executed graph as tidy frames: its tasks, the memory of its pools, and how busy each stream was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph.memory import MemoryLedger
from sim.graph.times import Times

if TYPE_CHECKING:
    import pandas as pd

NO_DEVICE = -1  # of tasks that occupy nothing

TASK_COLUMNS = {
    "device": "whose stream; -1: none",
    "stream": "by name; empty: none",
    "name": "of the task",
    "kind": "of the task",
    "start_s": "since the start of the run",
    "end_s": "since the start of the run",
    "task": "index in the graph",
}
MEMORY_COLUMNS = {
    "device": "whose pool",
    "pool": "by name",
    "t_s": "from this instant on",
    "owner": "what the bytes are",
    "used_bytes": "that the owner holds from then on",
}
BUSY_COLUMNS = {
    "device": "whose stream",
    "stream": "by name",
    "tasks": "that it ran",
    "busy_s": "while one of them ran",
    "idle_s": "the rest of the makespan",
}


def tasks_frame(graph: TaskGraph, times: Times) -> pd.DataFrame:
    """One row a task, in the order in which tasks were added."""
    import pandas as pd

    devices = [*(stream.device for stream in graph.streams), NO_DEVICE]  # NO_STREAM takes the last
    names = [*(stream.name for stream in graph.streams), ""]
    columns = {
        "device": np.array([devices[stream] for stream in graph.stream], dtype=np.int64),
        "stream": [names[stream] for stream in graph.stream],
        "name": graph.name,
        "kind": graph.kind,
        "start_s": np.array(times.start_s, dtype=np.float64),
        "end_s": np.array(times.end_s, dtype=np.float64),
        "task": np.arange(len(graph)),
    }
    return pd.DataFrame(columns, columns=list(TASK_COLUMNS))


def memory_frame(graph: TaskGraph, times: Times) -> pd.DataFrame:
    """One row an instant at which what an owner holds in a pool changes; pools in order, owners by name, then time."""
    import pandas as pd

    usage = MemoryLedger(graph).usage(times)
    parts = [
        pd.DataFrame({"device": pool.device, "pool": pool.name, "t_s": t_s, "owner": owner, "used_bytes": used})
        for number, pool in enumerate(graph.pools)
        for owner, t_s, used in usage.by_owner(number)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(MEMORY_COLUMNS))


def busy(graph: TaskGraph, times: Times) -> pd.DataFrame:
    """One row a stream; busy_s + idle_s is the makespan, to the last bit.

    A task keeps its stream busy from start to end, however slowly its bytes flow; waiting for memory is idle.
    """
    import pandas as pd

    stream = np.array(graph.stream, dtype=np.int64)
    on_stream = stream != NO_STREAM
    lasted = (np.array(times.end_s, dtype=np.float64) - np.array(times.start_s, dtype=np.float64))[on_stream]
    streams = len(graph.streams)
    sums = np.bincount(stream[on_stream], lasted, minlength=streams)
    idle = np.maximum(times.makespan_s - sums, 0.0)  # below zero by rounding alone: a stream runs one task at a time
    columns = {
        "device": np.array([one.device for one in graph.streams], dtype=np.int64),
        "stream": [one.name for one in graph.streams],
        "tasks": np.bincount(stream[on_stream], minlength=streams),
        "busy_s": times.makespan_s - idle,  # the sum again, rounded so that both make up the makespan
        "idle_s": idle,
    }
    return pd.DataFrame(columns, columns=list(BUSY_COLUMNS))
