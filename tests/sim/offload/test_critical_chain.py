"""The chain of tasks that a step waited for."""

from policies.task_graph import TaskGraph
from sim.graph.event_loop import execute_quickly
from sim.offload.critical import critical_seconds


def test_tasks_of_no_duration_that_took_turns_do_not_wait_for_each_other_for_ever() -> None:
    graph = TaskGraph()
    compute, drives = graph.add_stream(0, "compute"), graph.add_stream(0, "ssd", by_priority=True)
    first = graph.add(compute, 1.0, "forward")
    reads = [graph.add(drives, 0.0, "ssd read", [first]) for _ in range(3)]
    graph.add(compute, 2.0, "backward", reads)
    assert critical_seconds(graph, execute_quickly(graph)) == {"backward": 2.0, "forward": 1.0, "ssd read": 0.0}
