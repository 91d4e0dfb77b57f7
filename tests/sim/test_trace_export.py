import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import sim.trace_export
from sim.result import Result
from sim.run import run
from sim.scenario import Scenario
from sim.trace_export import write_chrome_trace


def simulated(replicas: int = 1, stages: int = 1) -> Result:
    generator = {
        "name": "synthetic",
        "arrivals": {"name": "poisson", "request_rate": 20.0},
        "prompt_tokens": 300,
        "output_tokens": 40,
    }
    scenario = Scenario.model_validate(
        {
            "model": {"config": "llama-3.1-8b"},
            "cluster": {"node": "dgx-h100"},
            "serving": {"replicas": replicas, "pipeline_parallel_size": stages},
            "workload": {"generator": generator, "num_requests": 20},
        }
    )
    return run(scenario)


def events(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(content)["traceEvents"]


@pytest.mark.parametrize(("replicas", "stages"), [(1, 1), (2, 1), (1, 2)])
def test_slices_fill_the_busy_time_in_microseconds(tmp_path: Path, replicas: int, stages: int) -> None:
    result = simulated(replicas, stages)
    count = write_chrome_trace(result, tmp_path / "t.json")
    found = events(tmp_path / "t.json")
    assert len(found) == count
    slices = [event for event in found if event["ph"] == "X"]
    assert sum(event["dur"] for event in slices) == pytest.approx(1e6 * result.steps["duration_s"].sum(), rel=1e-9)
    assert sum(event["args"]["steps"] for event in slices) == result.summary["steps"]
    end = 1e6 * (result.requests["arrival_s"] + result.requests["e2e_s"]).max()
    assert all(event["ts"] >= 0 and event["ts"] + event["dur"] <= end * (1 + 1e-9) for event in slices)


def test_steps_are_drawn_one_by_one_while_a_browser_can_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = simulated()
    write_chrome_trace(result, tmp_path / "t.json")
    slices = [event for event in events(tmp_path / "t.json") if event["ph"] == "X"]
    assert len(slices) == result.summary["steps"] > len(result.steps)
    monkeypatch.setattr(sim.trace_export, "MAX_EVENTS", 3 * len(result.steps))
    write_chrome_trace(result, tmp_path / "t.json")
    slices = [event for event in events(tmp_path / "t.json") if event["ph"] == "X"]
    assert len(slices) == len(result.steps)


def test_a_trace_too_long_is_cut_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.trace_export, "MAX_EVENTS", 30)
    write_chrome_trace(simulated(), tmp_path / "t.json")
    found = events(tmp_path / "t.json")
    assert found[-1]["name"] == "cut here after 30 events"
    assert len([event for event in found if event["ph"] == "X"]) == 11


def test_every_replica_and_micro_batch_is_named(tmp_path: Path) -> None:
    write_chrome_trace(simulated(replicas=2, stages=2), tmp_path / "t.json")
    found = events(tmp_path / "t.json")
    named = {(event["pid"], event["tid"]) for event in found if event["name"] == "thread_name"}
    assert named == {(event["pid"], event["tid"]) for event in found if event["ph"] == "X"}
    assert len(named) == 4


def test_a_gzipped_trace_holds_the_same_and_no_date(tmp_path: Path) -> None:
    result = simulated()
    write_chrome_trace(result, tmp_path / "t.json")
    write_chrome_trace(result, tmp_path / "a.json.gz")
    write_chrome_trace(result, tmp_path / "b.json.gz")
    assert events(tmp_path / "a.json.gz") == events(tmp_path / "t.json")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
