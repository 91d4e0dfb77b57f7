"""Transfers of a graph over links that they share, and over links that they have to themselves."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from policies.task_graph import NO_STREAM, TaskGraph, Transfer
from sim.graph import execute, lower_bound_s, max_plus
from sim.graph.frames import busy


def send(graph: TaskGraph, stream: int, transfer: Transfer, after: tuple[int, ...] = ()) -> int:
    rate = min(graph.links[link].bytes_per_s / transfer.links.count(link) for link in transfer.links)
    return graph.add(stream, transfer.latency_s + transfer.size_bytes / rate, "send", after, transfer=transfer)


@st.composite
def graphs_with_transfers(draw: Any) -> TaskGraph:
    graph = TaskGraph()
    for number in range(3):
        graph.add_link(f"link {number}", draw(st.sampled_from([1.0, 2.0, 3.0, 100.0])))
        graph.add_stream(number, "nic", by_priority=False)
    for number in range(draw(st.integers(1, 14))):
        stream = draw(st.integers(NO_STREAM, 2))
        after = tuple(draw(st.lists(st.integers(0, number - 1), max_size=3))) if number else ()
        if draw(st.booleans()):
            links = tuple(draw(st.lists(st.integers(0, 2), min_size=1, max_size=2)))
            size = draw(st.one_of(st.sampled_from([0.0, 3.0, 6.0]), st.floats(0.1, 10.0)))
            send(graph, stream, Transfer(links, size, draw(st.sampled_from([0.0, 0.0, 0.5, 1.0]))), after)
        else:
            graph.add(stream, draw(st.sampled_from([0.0, 1.0, 2.5])), "work", after)
    return graph


@given(graphs_with_transfers())
@settings(max_examples=120, deadline=None)
def test_max_plus_refuses_crowded_links_and_agrees_with_the_clock_on_others(graph: TaskGraph) -> None:
    clock = execute(graph)
    assert lower_bound_s(graph) <= clock.makespan_s
    try:
        times = max_plus(graph)
    except FleetcastError:
        shared = [link for transfer in graph.transfer.values() for link in transfer.links]
        assert len(shared) > len(set(shared))
    else:
        assert times.start_s == pytest.approx(clock.start_s, rel=1e-12, abs=1e-12)
        assert times.end_s == pytest.approx(clock.end_s, rel=1e-12, abs=1e-12)


@given(graphs_with_transfers())
@settings(max_examples=100, deadline=None)
def test_transfers_never_end_before_they_would_alone(graph: TaskGraph) -> None:
    times = execute(graph)
    for task, duration_s in enumerate(graph.duration_s):
        assert times.end_s[task] - times.start_s[task] >= duration_s - 1e-12 * max(1.0, times.makespan_s)
    account = busy(graph, times)
    assert (account["busy_s"] + account["idle_s"] == times.makespan_s).all()
    assert execute(graph) == times


def two_sends(bytes_per_s: float) -> TaskGraph:
    """Two devices' NICs of 4 bytes/s and what lies behind them."""
    graph = TaskGraph()
    nics = [graph.add_link(f"nic {device}", 4.0) for device in range(2)]
    uplink = graph.add_link("uplink", bytes_per_s)
    for device in range(2):
        stream = graph.add_stream(device, "nic")
        send(graph, stream, Transfer((nics[device], uplink), 8.0, 1.0))
    return graph


def test_two_transfers_halve_a_link() -> None:
    graph = two_sends(4.0)
    assert execute(graph).end_s == pytest.approx([5.0, 5.0], rel=1e-12)
    with pytest.raises(FleetcastError, match=r"task 1 'send' .* meets other transfers on link 'uplink'; run it on the"):
        max_plus(graph)


def test_a_link_that_can_carry_both_binds_neither() -> None:
    graph = two_sends(8.0)
    assert execute(graph).end_s == max_plus(graph).end_s == [3.0, 3.0]


def test_latencies_may_overlap_with_bytes_of_others() -> None:
    graph = two_sends(4.0)
    first = graph.transfer[0]
    graph.duration_s[0] = 1.0
    graph.transfer[0] = Transfer(first.links, 4.0, 0.0)
    assert execute(graph).end_s == max_plus(graph).end_s == [1.0, 3.0]


def test_a_link_that_carries_nothing_is_refused() -> None:
    graph = two_sends(8.0)
    graph.links[2] = type(graph.links[2])("uplink", 0.0)
    for use in (execute, max_plus):
        with pytest.raises(FleetcastError, match=r"link 'uplink' carries 0\.0 bytes/s"):
            use(graph)
