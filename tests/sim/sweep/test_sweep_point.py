from pathlib import Path
from typing import Any

import pytest

from hardware_models.errors import DoesNotFitError, FleetcastError, ImpossibleError
from sim.identity import scenario_id
from sim.run import run
from sim.scenario import Scenario
from sim.sweep.point import FAILED, INFEASIBLE, OK, Job, guarded, run_point
from sim.sweep.request_cache import RequestCache

LINES = [f"{second},100,20" for second in range(30)]


def write_trace(lines: list[str]) -> Path:
    path = Path("t.csv").absolute()
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n")
    return path


def tables_of(**serving: Any) -> dict[str, Any]:
    return {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "serving": serving,
        "workload": {"trace": str(Path("t.csv").absolute())},
    }


def job_of(tables: dict[str, Any]) -> Job:
    return Job(0, scenario_id(Scenario.model_validate(tables)), tables)


@pytest.fixture(autouse=True)
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_trace(LINES)


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (tables_of(tensor_parallel_size=3), "does not divide"),
        (tables_of(replicas=9), "need 9 GPUs"),
        (tables_of(pipeline_parallel_size=33) | {"cluster": {"node": "dgx-h100", "nodes": 8}}, "has 32 layers"),
        (tables_of() | {"model": {"config": "llama-3.1-70b"}}, "does not fit"),
        (tables_of(scheduler={"name": "orca"}, num_gpu_blocks_override=4), "sets aside"),
        (tables_of(scheduler={"name": "orca", "polic": "x"}), "unknown name 'polic'"),
        (
            tables_of()
            | {"cluster": {"node": "dgx-a100-80gb"}, "model": {"config": "llama-3.1-8b", "activation_dtype": "fp8"}},
            "has no fp8 arithmetic",
        ),
    ],
)  # fmt: skip
def test_a_deployment_that_cannot_be_is_infeasible(tables: dict[str, Any], reason: str) -> None:
    tables["workload"] = {"trace": str(Path("t.csv").absolute())}
    outcome = guarded(run_point, job_of(tables))
    assert outcome.status == INFEASIBLE
    assert reason in outcome.reason


def test_refusals_of_a_deployment_are_errors_of_their_own() -> None:
    assert issubclass(DoesNotFitError, ImpossibleError)
    with pytest.raises(ImpossibleError, match="does not divide"):
        run(Scenario.model_validate(tables_of(tensor_parallel_size=3)))


def test_a_file_that_is_gone_for_a_moment_is_a_failure_and_no_infeasible_point(trace: Path) -> None:
    job, text = job_of(tables_of()), trace.read_text()
    trace.unlink()
    gone = guarded(run_point, job)
    assert gone.status == FAILED
    assert gone.reason.startswith("a file that the scenario names")
    trace.write_text(text)
    assert guarded(run_point, job).status == OK


def test_a_file_of_other_content_than_the_address_says_is_never_simulated() -> None:
    job = job_of(tables_of())
    write_trace([*LINES, "31,4000,20"])
    with pytest.raises(FleetcastError, match="is not as it was when the sweep began"):
        run_point(job)


def test_a_workload_that_cannot_be_read_is_a_failure() -> None:
    write_trace(["0,100,nought"])
    outcome = guarded(run_point, job_of(tables_of()))
    assert outcome.status == FAILED
    assert "nought" in outcome.reason


def test_requests_of_an_edited_trace_are_read_again() -> None:
    cache, workload = RequestCache(), Scenario.model_validate(tables_of()).workload
    assert len(cache.requests(workload, 1)) == 30
    write_trace(LINES[:10])
    assert len(cache.requests(workload, 1)) == 10
    write_trace(LINES)
    assert len(cache.requests(workload, 1)) == 30
