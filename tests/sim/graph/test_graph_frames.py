import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_graphs import pipeline, task_graphs

from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph import MemoryLedger, execute
from sim.graph.frames import BUSY_COLUMNS, MEMORY_COLUMNS, TASK_COLUMNS, busy, memory_frame, tasks_frame


@given(task_graphs(by_priority=True))
@settings(max_examples=100, deadline=None)
def test_a_stream_is_busy_or_idle_for_the_makespan_to_the_last_bit(graph: TaskGraph) -> None:
    times = execute(graph)
    account = busy(graph, times)
    assert (account["busy_s"] + account["idle_s"] == times.makespan_s).all()
    assert (account["idle_s"] >= 0).all()
    assert (account["busy_s"] >= 0).all()
    for stream, row in enumerate(account.itertuples()):
        mine = [task for task in range(len(graph)) if graph.stream[task] == stream]
        assert row.tasks == len(mine)
        lasted = sum(graph.duration_s[task] for task in mine)
        assert row.busy_s == pytest.approx(lasted, rel=1e-9, abs=1e-12 * max(1.0, times.makespan_s))


@given(task_graphs(budgets=st.just(float("inf"))))
@settings(max_examples=100, deadline=None)
def test_owners_of_a_pool_add_up_to_its_profile(graph: TaskGraph) -> None:
    times = execute(graph)
    frame = memory_frame(graph, times)
    usage = MemoryLedger(graph).usage(times)
    for number, pool in enumerate(graph.pools):
        t_s, used = usage.profile(number)
        rows = frame[(frame["device"] == pool.device) & (frame["pool"] == pool.name)]
        total = np.zeros(len(t_s))
        for _, mine in rows.groupby("owner"):
            at = np.searchsorted(mine["t_s"].to_numpy(dtype=float), t_s, side="right")
            total += np.append(0.0, mine["used_bytes"].to_numpy(dtype=float))[at]
        assert total.tolist() == used.tolist()


def test_frames_have_the_columns_that_are_promised() -> None:
    graph = pipeline(2, 2, 1.0, 2.0, "1f1b")
    graph.add(NO_STREAM, 0.5, "delay", name="warm up")
    times = execute(graph)
    tasks, memory, account = tasks_frame(graph, times), memory_frame(graph, times), busy(graph, times)
    assert list(tasks) == list(TASK_COLUMNS)
    assert list(memory) == list(MEMORY_COLUMNS)
    assert list(account) == list(BUSY_COLUMNS)
    assert tasks.iloc[-1].tolist() == [-1, "", "warm up", "delay", 0.0, 0.5, 8]
    assert tasks.iloc[0].tolist() == [0, "compute", "forward 0", "forward", 0.0, 1.0, 0]
    first = memory[memory["device"] == 0]
    assert first["t_s"].tolist() == [0.0, 1.0, 6.0, 9.0]
    assert first["used_bytes"].tolist() == [1.0, 2.0, 1.0, 0.0]


def test_an_empty_graph_gives_empty_frames() -> None:
    graph = TaskGraph()
    times = execute(graph)
    for frame in (tasks_frame(graph, times), memory_frame(graph, times), busy(graph, times)):
        assert len(frame) == 0
        assert len(frame.columns)
