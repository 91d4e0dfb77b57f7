import json
from pathlib import Path

import pandas as pd
import pytest

from hardware_models.errors import FleetcastError
from sim.result import Result
from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import load_scenario
from sim.vllm_bench import vllm_bench_json
from workloads.request import RequestTable

# as DESIGN.md, "Results", lists them
REQUESTS = [
    "request_id",
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "queue_s",
    "ttft_s",
    "tpot_s",
    "max_tbt_s",
    "e2e_s",
    "preemptions",
    "replica",
    "priority",
    "tenant",
    "slo_met",
]
STEPS = ["replica", "start_s", "duration_s", "prefill_tokens", "decode_seqs", "context_tokens", "bound_by", "power_w"]


@pytest.fixture
def result() -> Result:
    tables = {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "serving": {"max_model_len": 1000},
        "workload": {"trace": "sharegpt"},
    }
    requests = RequestTable.build(
        source="made up",
        arrival_s=[0.0, 0.1, 0.2, 0.3],
        prompt_tokens=[50, 2000, 60, 70],  # the second is rejected
        output_tokens=[10, 10, 1, 5],
    )
    return run(Scenario.model_validate(tables), requests=requests)


def test_frames_have_the_documented_columns_and_come_back_from_disk(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path / "run")
    requests = pd.read_parquet(tmp_path / "run" / "requests.parquet")
    steps = pd.read_parquet(tmp_path / "run" / "steps.parquet")
    assert requests.columns.tolist() == REQUESTS
    assert [column for column in steps.columns if column in STEPS] == STEPS
    pd.testing.assert_frame_equal(requests, result.requests)
    pd.testing.assert_frame_equal(steps, result.steps)


def test_requests_stand_in_the_order_of_their_ids(result: Result) -> None:
    assert result.requests["request_id"].is_monotonic_increasing
    assert len(result.requests) == 4


def test_what_does_not_apply_is_nan_in_frames_and_null_in_json(result: Result) -> None:
    rejected, single = result.requests.iloc[1], result.requests.iloc[2]
    assert pd.isna(rejected["ttft_s"])
    assert rejected["replica"] == -1
    assert not rejected["slo_met"]
    assert pd.isna(single["tpot_s"])
    assert pd.isna(single["max_tbt_s"])
    assert json.loads(result.summary_json())["pipeline_bubble_fraction"] is None


def test_a_written_scenario_loads_to_the_same(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path / "run")
    assert load_scenario(tmp_path / "run" / "scenario.toml") == result.scenario


def test_a_failed_write_leaves_what_was_there(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path / "run")

    def fail(_: Path) -> None:
        raise KeyboardInterrupt

    for place in ("run", "new/deep"):
        with pytest.raises(KeyboardInterrupt):
            result.write(tmp_path / place, {"report.html": fail})
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "summary.json").read_text() == result.summary_json() + "\n"


def test_a_folder_of_something_else_is_refused(result: Result, tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(FleetcastError, match=r"holds 'thesis\.doc', which this run would not write"):
        result.write(tmp_path)
    assert (tmp_path / "thesis.doc").exists()


def test_a_link_to_a_run_is_followed(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path / "run")
    (tmp_path / "link").symlink_to("run")
    result.write(tmp_path / "link", {"extra.txt": "x"})
    assert (tmp_path / "run" / "extra.txt").read_text() == "x"
    assert (tmp_path / "link").is_symlink()


def test_the_vllm_shape_counts_in_milliseconds_and_lists_in_seconds(result: Result) -> None:
    bench = vllm_bench_json(result, detailed=True)
    assert (bench["completed"], bench["failed"]) == (3, 1)
    assert bench["median_ttft_ms"] == pytest.approx(1e3 * result.summary["ttft_s"]["p50"])
    assert bench["input_lens"] == [50, 60, 70]
    assert bench["ttfts"] == result.requests["ttft_s"].dropna().tolist()
    assert bench["request_goodput"] is None  # no SLO was given
    json.dumps(bench, allow_nan=False)
