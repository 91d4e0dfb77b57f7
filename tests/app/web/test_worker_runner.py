import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.web.runner import Run, Runner
from app.web.settings import GIB, Settings
from app.web.store import Store
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

    folder = Store(tmp_path).result_folder(make().submit(SMALL, "me").run_id)
    while not (folder / "summary.json").exists():
        time.sleep(0.02)
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
