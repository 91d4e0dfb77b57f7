import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from task_graphs import pipeline

import sim.graph.trace
from policies.task_graph import NO_STREAM
from sim.graph import execute
from sim.graph.trace import write_graph_trace


def written(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(content)["traceEvents"]


def test_every_task_of_a_stream_is_a_slice_of_its_lane(tmp_path: Path) -> None:
    graph = pipeline(3, 4, 1e-3, 2e-3, "1f1b")
    graph.add(NO_STREAM, 1.0, "delay")
    times = execute(graph)
    count = write_graph_trace(graph, times, tmp_path / "t.json")
    events = written(tmp_path / "t.json")
    assert len(events) == count
    slices = {event["args"]["task"]: event for event in events if event["ph"] == "X"}
    assert sorted(slices) == list(range(len(graph) - 1))
    for task, event in slices.items():
        assert (event["pid"], event["tid"]) == (graph.streams[graph.stream[task]].device, graph.stream[task])
        assert (event["name"], event["cat"]) == (graph.name[task], graph.kind[task])
        assert event["ts"] == pytest.approx(times.start_s[task] * 1e6, abs=1e-3)
        assert event["dur"] == pytest.approx(graph.duration_s[task] * 1e6, abs=1e-3)
    assert len({event["cname"] for event in slices.values()}) == 2
    assert len({(event["cat"], event["cname"]) for event in slices.values()}) == 2
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert named == {(event["pid"], event["tid"]) for event in slices.values()}


def test_slices_of_a_lane_do_not_overlap(tmp_path: Path) -> None:
    graph = pipeline(4, 16, 1e-3 / 3, 2e-3 / 7, "1f1b")
    write_graph_trace(graph, execute(graph), tmp_path / "t.json")
    slices = [event for event in written(tmp_path / "t.json") if event["ph"] == "X"]
    for lane in range(4):
        spans = [(round(e["ts"] * 1e3), round((e["ts"] + e["dur"]) * 1e3)) for e in slices if e["tid"] == lane]
        assert spans == sorted(spans)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_counters_follow_the_memory_of_each_pool(tmp_path: Path) -> None:
    graph = pipeline(2, 2, 1.0, 2.0, "1f1b")
    write_graph_trace(graph, execute(graph), tmp_path / "t.json")
    counters = [event for event in written(tmp_path / "t.json") if event["ph"] == "C" and event["pid"] == 0]
    assert [(event["name"], event["ts"], event["args"]["used_bytes"]) for event in counters] == [
        ("hbm", 0.0, 1.0),
        ("hbm", 1e6, 2.0),
        ("hbm", 6e6, 1.0),
        ("hbm", 9e6, 0.0),
    ]


def test_a_graph_too_long_is_cut_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.graph.trace, "MAX_EVENTS", 30)
    graph = pipeline(2, 16, 1.0, 2.0, "1f1b")
    assert write_graph_trace(graph, execute(graph), tmp_path / "t.json") == 31
    events = written(tmp_path / "t.json")
    assert events[-1]["name"] == "cut here after 30 events"
    assert events[-1]["ts"] >= max(event["ts"] for event in events if "ts" in event)


def test_a_gzipped_trace_holds_the_same_and_no_date(tmp_path: Path) -> None:
    graph = pipeline(2, 2, 1.0, 2.0, "gpipe")
    for name in ("t.json", "a.json.gz", "b.json.gz"):
        write_graph_trace(graph, execute(graph), tmp_path / name)
    assert written(tmp_path / "a.json.gz") == written(tmp_path / "t.json")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_names_begin_with_the_kind_so_that_viewers_colour_by_it(tmp_path: Path) -> None:
    graph = pipeline(1, 1, 1.0, 2.0, "gpipe")
    graph.name[0] = "F0"
    write_graph_trace(graph, execute(graph), tmp_path / "t.json")
    assert [e["name"] for e in written(tmp_path / "t.json") if e["ph"] == "X"] == ["forward F0", "backward 0"]
