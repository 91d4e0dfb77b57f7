"""The bare event loop against SimPy's clock: the same times to the last bit, the same refusals."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_graphs import task_graphs

from hardware_models.errors import FleetcastError
from policies.task_graph import NO_STREAM, TaskGraph, Transfer
from sim.graph.event_loop import execute_quickly
from sim.graph.executor import execute
from sim.graph.times import Times
from sim.network import shared_links


def ended(run: Any, graph: TaskGraph) -> Times | str:
    try:
        return run(graph)
    except FleetcastError as error:
        return str(error)


def carry(graph: TaskGraph, task: int, transfer: Transfer) -> None:
    rate = min(graph.links[link].bytes_per_s / transfer.links.count(link) for link in transfer.links)
    graph.transfer[task] = transfer
    graph.duration_s[task] = transfer.latency_s + transfer.size_bytes / rate


@st.composite
def graphs(draw: Any) -> TaskGraph:
    """Streams by priority, tight budgets, and transfers that crowd links, all at once."""
    graph = draw(task_graphs(by_priority=True, budgets=st.floats(3.0, 9.0), max_tasks=18))
    for number in range(3):
        graph.add_link(f"link {number}", draw(st.sampled_from([1.0, 2.0, 3.0])))
    for task in range(len(graph)):
        if draw(st.booleans()):
            links = tuple(draw(st.lists(st.integers(0, 2), min_size=1, max_size=2)))
            size = draw(st.sampled_from([0.0, 1.0, 3.0, 0.7]))
            carry(graph, task, Transfer(links, size, draw(st.sampled_from([0.0, 0.0, 0.5]))))
    return graph


@given(graphs())
@settings(max_examples=120, deadline=None)
def test_the_loop_gives_the_times_of_the_clock_to_the_last_bit(graph: TaskGraph) -> None:
    assert ended(execute_quickly, graph) == ended(execute, graph)


def many_flows() -> TaskGraph:
    """Transfers that come and go so that now few, now many are under way."""
    graph = TaskGraph()
    links = [graph.add_link(f"link {number}", rate) for number, rate in enumerate((4.0, 7.0, 100.0))]
    for number in range(24):
        gate = graph.add(NO_STREAM, 0.3 * number, "gate")
        task = graph.add(NO_STREAM, 0.0, "send", [gate])
        carry(graph, task, Transfer((links[number % 3], links[(number + 1) % 3]), 1.0 + number % 5))
    return graph


def test_rates_that_are_looked_up_are_those_that_are_filled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = execute_quickly(many_flows())
    assert looked_up == execute(many_flows())
    monkeypatch.setattr(shared_links, "FEW", -1)
    assert execute_quickly(many_flows()).end_s == pytest.approx(looked_up.end_s, rel=1e-12)


def test_a_circle_is_named_though_it_is_found_by_a_standstill() -> None:
    graph = TaskGraph()
    stream = graph.add_stream(0, "compute")
    first = graph.add(stream, 1.0, "work")
    graph.wait_for(first, graph.add(stream, 1.0, "work"))
    with pytest.raises(FleetcastError, match="wait in a circle"):
        execute_quickly(graph)
