import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.web import worker
from app.web.runner import Run, Runner
from app.web.settings import GIB, Settings
from app.web.store import Store
from app.web.worker_process import Worker
from sim.identity import scenario_id
from sim.scenario import Scenario
from sim.scenario_file import load_scenario

EXAMPLE = Path(__file__).parent.parent.parent.parent / "scenarios" / "chat-70b-chunked.toml"
Scenarios = Callable[..., Scenario]
LONG = ("workload.duration_s=36000", "workload.rate_scale=3")  # minutes of work


def scenario(*overrides: str) -> Scenario:
    return load_scenario(EXAMPLE, overrides)


SMALL = scenario("workload.duration_s=20")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """A runner with limits of one's own; its processes end with the test."""
    made: list[Runner] = []

    def build(**limits: float) -> Runner:
        made.append(Runner(Store(tmp_path), Settings(**{"runs": tmp_path, "workers": 1, **limits})))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for runner in made:
        runner.close()


def ended(run: Run, watcher: str = "me") -> str:
    until = time.monotonic() + 60.0
    while not run.wait(0.5, watcher):  # each look keeps it alive
        assert time.monotonic() < until, run.state
    return run.state


def under_way(run: Run) -> None:
    while not run.done:
        assert not run.wait(0.02, "me"), run.message


def test_a_run_is_written_where_its_identity_says_and_then_kept(make: Callable[..., Runner], tmp_path: Path) -> None:
    runner = make()
    first = runner.submit(SMALL, "me")
    assert ended(first) == "finished"
    kept = Store(tmp_path).run(first.run_id)
    assert kept.scenario == SMALL
    assert len(kept.requests) == kept.summary["requests"] > 50
    again = runner.submit(SMALL, "me")
    assert again.over
    assert again.run_id == first.run_id


def test_the_workers_answer_is_the_command_lines(make: Callable[..., Runner], tmp_path: Path) -> None:
    from sim.run import run

    asked = make().submit(SMALL, "me")
    assert ended(asked) == "finished", asked.message
    folder = Store(tmp_path).result_folder(asked.run_id)
    run(SMALL).write(tmp_path / "by-hand")
    for name in ("summary.json", "scenario.toml", "requests.parquet", "steps.parquet"):
        assert (folder / name).read_bytes() == (tmp_path / "by-hand" / name).read_bytes()


def test_an_impossible_scenario_fails_with_the_sentence_and_costs_nothing_twice(make: Callable[..., Runner]) -> None:
    runner, impossible = make(), scenario("serving.tensor_parallel_size=1")
    run = runner.submit(impossible, "me")
    assert ended(run) == "failed"
    assert "llama-3.1-70b" in run.message
    assert runner.submit(impossible, "me").over
    assert ended(runner.submit(impossible, "me", again=True)) == "failed"
    assert ended(runner.submit(SMALL, "me")) == "finished"


def test_progress_is_told_and_leaving_stops(make: Callable[..., Runner]) -> None:
    runner = make()
    run = runner.submit(scenario(*LONG), "me")
    under_way(run)
    assert 0 < run.done < run.total
    started = time.monotonic()
    run.leave("me")
    while not run.over:
        time.sleep(0.01)
    assert run.state == "stopped"
    assert time.monotonic() - started < 2.0
    assert ended(runner.submit(SMALL, "me")) == "finished"


def test_a_run_that_another_session_watches_goes_on(make: Callable[..., Runner]) -> None:
    runner = make()
    run = runner.submit(scenario(*LONG), "me")
    assert runner.submit(scenario(*LONG), "you") is run
    under_way(run)
    run.leave("me")
    assert not run.wait(0.5, "you")
    run.leave("you")
    while not run.over:
        time.sleep(0.01)
    assert run.state == "stopped"


def test_nobodys_run_ends(make: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.runner.FORGOTTEN_S", 0.2)
    run = make().submit(scenario(*LONG), "me")
    until = time.monotonic() + 30
    while not run.over and time.monotonic() < until:
        time.sleep(0.05)
    assert run.state == "stopped"


def test_the_time_limit_ends_a_run_with_a_sentence(make: Callable[..., Runner]) -> None:
    runner = make(time_limit_s=2.0)
    run = runner.submit(scenario(*LONG), "me")
    assert ended(run) == "failed"
    assert run.message.startswith("the simulation took longer than 2 s, the app's limit")


def test_the_memory_limit_ends_a_run_with_a_sentence_and_the_next_one_runs(make: Callable[..., Runner]) -> None:
    runner = make(memory_limit_bytes=GIB // 4)
    run = runner.submit(scenario("workload.duration_s=360000", "workload.rate_scale=5"), "me")
    assert ended(run) == "failed"
    assert "memory" in run.message
    assert "0.25 GiB" in run.message
    assert ended(runner.submit(SMALL, "me")) == "finished"


def test_a_killed_worker_is_replaced(make: Callable[..., Runner]) -> None:
    runner = make()
    run = runner.submit(scenario(*LONG), "me")
    under_way(run)
    os.kill(runner.process_ids()[0], signal.SIGKILL)
    assert ended(run) == "failed"
    assert "was killed" in run.message
    assert ended(runner.submit(SMALL, "me")) == "finished"
    os.kill(runner.process_ids()[0], signal.SIGKILL)  # while idle
    assert ended(runner.submit(scenario("workload.duration_s=21"), "me")) == "finished"


def test_a_run_waits_for_a_free_worker_and_may_be_left_meanwhile(make: Callable[..., Runner]) -> None:
    runner = make()
    busy = runner.submit(scenario(*LONG), "me")
    under_way(busy)
    waiting = runner.submit(SMALL, "you")
    assert not waiting.wait(0.3, "you")
    assert waiting.state == "waiting"
    waiting.leave("you")
    while not waiting.over:
        assert not busy.wait(0.01, "me")
    assert waiting.state == "stopped"


def test_a_billion_requests_are_refused_with_a_sentence(make: Callable[..., Runner]) -> None:
    run = make().submit(scenario("workload.rate_scale=1e6", "workload.duration_s=1e6"), "me")
    assert ended(run) == "failed"
    assert "requests" in run.message


def test_closing_leaves_no_process(make: Callable[..., Runner]) -> None:
    runner = make()
    under_way(runner.submit(scenario(*LONG), "me"))
    (number,) = runner.process_ids()
    runner.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


HEADER = "arrival_s,prompt_tokens,output_tokens\n"


def own_trace(tmp_path: Path, requests: int) -> Scenario:
    """A scenario of a user's own trace, and the trace with so many requests."""
    trace = tmp_path / "trace.csv"
    trace.write_text(HEADER + "".join(f"{number},100,10\n" for number in range(requests)))
    return scenario(f"workload.trace={trace}", "workload.duration_s=1000")


def test_a_file_that_changes_before_its_run_begins_is_not_taken_for_what_it_was(
    make: Callable[..., Runner], tmp_path: Path
) -> None:
    runner, busy_by = make(), "other"
    busy = runner.submit(scenario(*LONG), busy_by)
    asked = own_trace(tmp_path, 3)
    run = runner.submit(asked, "me")
    own_trace(tmp_path, 5)
    busy.leave(busy_by)
    assert ended(run) == "failed"
    assert run.message.startswith("the scenario: a file that it names changed meanwhile; ask again")
    assert list((tmp_path / "results").glob("*")) == []
    again = runner.submit(asked, "me")
    assert ended(again) == "finished"
    assert Store(tmp_path).run(again.run_id).summary["requests"] == 5
    own_trace(tmp_path, 3)
    as_it_was = runner.submit(asked, "me")  # the failure is not kept
    assert as_it_was.run_id == run.run_id
    assert ended(as_it_was) == "finished"
    assert Store(tmp_path).run(run.run_id).summary["requests"] == 3


@pytest.mark.parametrize(
    "change", [lambda folder: own_trace(folder, 5), lambda folder: (folder / "trace.csv").unlink()]
)
def test_a_file_that_changes_during_its_run_leaves_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    module, asked = importlib.import_module("sim.run"), own_trace(tmp_path, 3)
    simulate = module.run

    def slow(*given: object, **named: object) -> object:
        result = simulate(*given, **named)
        change(tmp_path)
        return result

    monkeypatch.setattr(module, "run", slow)
    order = {"scenario": asked.model_dump(), "run_id": scenario_id(asked), "folder": str(tmp_path / "out")}
    with (tmp_path / "messages").open("w") as out:
        outcome = worker._outcome(order, worker.Messages(out), GIB)
    assert outcome["changed"]
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_of_the_app_ends_the_run_and_frees_its_worker(
    make: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make()
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "order", lambda *_: 1 / 0)
        run = runner.submit(SMALL, "me")
        assert ended(run) == "failed"
        assert "its log has more" in run.message
    assert ended(runner.submit(SMALL, "me", again=True)) == "finished"
    with monkeypatch.context() as patch:
        patch.setattr(Store, "prune", lambda _: 1 / 0)
        assert ended(runner.submit(scenario("workload.duration_s=22"), "me")) == "finished"
    assert ended(runner.submit(scenario("workload.duration_s=23"), "me")) == "finished"
