from pathlib import Path

import pandas as pd
import pytest

from hardware_models.errors import FleetcastError
from sim.result import Result
from sim.run import run
from sim.scenario_file import parse_scenario
from sim.stored_run import read_run, read_summary
from sim.trace_export import write_chrome_trace


@pytest.fixture(scope="module")
def result() -> Result:
    tables = {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "workload": {"trace": "azure-conv-2023", "num_requests": 40},
        "slo": {"ttft_s": 1.0},
    }
    return run(parse_scenario(tables, "x", Path()))


def test_a_run_reads_back_as_it_was_written(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path / "run")
    stored = read_run(tmp_path / "run")
    assert stored.scenario == result.scenario
    assert stored.summary["ttft_s"] == result.summary["ttft_s"]
    pd.testing.assert_frame_equal(stored.requests, result.requests, check_dtype=False)
    pd.testing.assert_frame_equal(stored.steps, result.steps, check_dtype=False)


def test_its_timeline_is_the_same(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path / "run")
    write_chrome_trace(result, tmp_path / "a.json")
    write_chrome_trace(read_run(tmp_path / "run"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_frames_are_read_when_asked_for(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path / "run")
    stored = read_run(tmp_path / "run")
    (tmp_path / "run" / "requests.parquet").unlink()
    assert len(stored.steps) > 0
    with pytest.raises(FileNotFoundError):
        _ = stored.requests


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is no run folder"),
        (b"[1]", "is no summary of this version"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
    ],
)
def test_a_folder_that_is_no_run_gets_a_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(FleetcastError, match=sentence):
        read_summary(tmp_path)
