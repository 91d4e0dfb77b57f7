"""A trace made of the frames of a run folder says what the trace of the graph itself says."""

import json
from pathlib import Path
from typing import Any

import pytest
from task_graphs import pipeline

import sim.graph.frames_trace
from policies.task_graph import NO_STREAM, TaskGraph
from sim.graph import execute
from sim.graph.frames import memory_frame, tasks_frame
from sim.graph.frames_trace import write_frames_trace
from sim.graph.trace import write_graph_trace


def example() -> TaskGraph:
    graph = pipeline(3, 4, 1e-3, 2e-3, "1f1b")
    pool = graph.add_pool(0, "host")
    graph.acquire(0, pool, 100.0, "weights")
    graph.acquire(1, pool, 50.0, "activations")
    graph.release(2, pool, 50.0, "activations")
    graph.add(NO_STREAM, 1.0, "delay")
    return graph


def events(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    return found


def test_slices_and_counters_are_those_of_the_graph_s_own_trace(tmp_path: Path) -> None:
    graph = example()
    times = execute(graph)
    of_graph, of_frames = tmp_path / "graph.json", tmp_path / "frames.json"
    write_graph_trace(graph, times, of_graph)
    count = write_frames_trace(tasks_frame(graph, times), memory_frame(graph, times), of_frames)
    assert len(events(of_frames)) == count
    for kind, keys in (("X", ("name", "cat", "cname", "pid", "ts", "dur", "args")), ("C", ("name", "pid", "ts"))):
        one, other = (
            sorted(json.dumps([event[key] for key in keys]) for event in events(path) if event["ph"] == kind)
            for path in (of_graph, of_frames)
        )
        assert one == other
    held = [event["args"]["used_bytes"] for event in events(of_frames) if event["ph"] == "C"]
    assert max(held) == pytest.approx(150.0)


def test_events_are_in_order_of_time_and_lanes_are_named(tmp_path: Path) -> None:
    graph = example()
    times = execute(graph)
    write_frames_trace(tasks_frame(graph, times), memory_frame(graph, times), tmp_path / "t.json")
    found = events(tmp_path / "t.json")
    moments = [event["ts"] for event in found if "ts" in event]
    assert moments == sorted(moments)
    named = {(event["pid"], event["tid"]) for event in found if event["name"] == "thread_name"}
    assert named == {(event["pid"], event["tid"]) for event in found if event["ph"] == "X"}


def test_what_is_beyond_the_limit_is_cut_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.graph.frames_trace, "MAX_EVENTS", 20)
    graph = example()
    times = execute(graph)
    assert write_frames_trace(tasks_frame(graph, times), memory_frame(graph, times), tmp_path / "t.json") == 21
    assert events(tmp_path / "t.json")[-1]["name"] == "cut here after 20 events"
