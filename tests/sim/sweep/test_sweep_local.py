import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sweep_work import HANGS, KILLS, RAISES, alive, dies_twice, ends_at_import, poisoned, quick, sleeping, slow

import sim.sweep.worker_process
from hardware_models.errors import FleetcastError
from sim.identity import scenario_id
from sim.scenario import Scenario
from sim.sweep.local import LocalRunner
from sim.sweep.point import FAILED, OK, Job, Work
from sim.sweep.schedule import Schedule

pytestmark = pytest.mark.usefixtures("folder")


def job(index: int) -> Job:
    return Job(index, f"{index:016x}", {"seed": index})


def real_job(index: int, tables: dict[str, Any]) -> Job:
    return Job(index, scenario_id(Scenario.model_validate(tables)), tables)


def run(runner: LocalRunner, points: int, groups: int = 1) -> dict[int, tuple[str, str]]:
    done = runner.run(Schedule((index % groups, index) for index in range(points)), job)
    return {one[0].index: (one[1].status, one[1].reason) for one in done if one is not None}


@pytest.mark.parametrize("workers", [1, 3])
def test_every_point_is_answered_once_and_by_its_own_answer(workers: int) -> None:
    with LocalRunner(workers, 60, quick) as runner:
        answers = [one for one in runner.run(Schedule((i % 5, i) for i in range(200)), job) if one is not None]
    assert sorted(done.index for done, _ in answers) == list(range(200))
    assert all(outcome.figures[0] == done.index for done, outcome in answers)


def test_killed_workers_cost_no_point() -> None:
    with LocalRunner(2, 60, slow) as runner:
        found: dict[int, str] = {}
        killed = 0
        for one in runner.run(Schedule((0, index) for index in range(200)), job):
            if one is not None:
                found[one[0].index] = one[1].status
                if len(found) % 40 == 20 and killed < len(found) / 40:
                    os.kill(random.choice(runner.pids), signal.SIGKILL)
                    killed += 1
    assert killed >= 4
    assert found == dict.fromkeys(range(200), OK)


def test_a_poisoned_point_is_one_failed_row_and_the_others_are_unharmed() -> None:
    tables = {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "workload": {"trace": "azure-conv-2023", "duration_s": 5},
    }
    with LocalRunner(2, 3.0, poisoned) as runner:
        done = runner.run(
            Schedule((0, index) for index in range(30)),
            lambda index: real_job(index, {**tables, "seed": index}),
        )
        found = {one[0].index: one[1] for one in done if one is not None}
    assert found[KILLS].reason == "3 workers died at it; the last one was killed by SIGKILL"
    assert found[RAISES].reason == "ZeroDivisionError: by design"
    assert found[HANGS].reason == "took longer than point_timeout_s = 3"
    assert found[HANGS].wall_s >= 3.0
    bad = {index for index, outcome in found.items() if outcome.status == FAILED}
    assert bad == {KILLS, RAISES, HANGS}
    assert sorted(found) == list(range(30))


def test_workers_end_with_their_runner_even_at_work() -> None:
    with LocalRunner(2, 60, sleeping) as runner:
        done = runner.run(Schedule((0, index) for index in range(4)), job)
        while not (runner.pids and all(worker.jobs for worker in runner._workers)):
            next(done)
        pids = runner.pids
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)
    assert runner.pids == []


def test_workers_that_never_begin_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.sweep.worker_process.sys, "executable", "/bin/false")
    with LocalRunner(1, 60, ends_at_import) as runner, pytest.raises(FleetcastError, match="end before they begin"):
        run(runner, 2)


def test_workers_that_never_get_ready_are_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("stuck").write_text("#!/bin/sh\nexec sleep 1000\n")
    Path("stuck").chmod(0o755)
    monkeypatch.setattr(sim.sweep.worker_process.sys, "executable", str(folder / "stuck"))
    monkeypatch.setattr("sim.sweep.local.START_S", 0.3)
    with LocalRunner(1, 60, quick) as runner, pytest.raises(FleetcastError, match=r"was still starting after 0\.3 s"):
        run(runner, 2)


def test_deaths_in_one_run_are_not_held_against_the_next() -> None:
    with LocalRunner(1, 60, dies_twice) as runner:
        for name in ("first", "second"):
            Path(name).mkdir()
            point = Job(5, name, {"folder": str(Path(name).absolute())})
            done = [one for one in runner.run(Schedule([(0, 5)]), lambda _, point=point: point) if one is not None]
            assert [outcome.status for _, outcome in done] == [OK]


def test_a_runner_that_another_thread_ends_stops_running() -> None:
    with LocalRunner(1, 60, sleeping) as runner:
        done = runner.run(Schedule([(0, 0)]), job)
        while not any(worker.jobs for worker in runner._workers):
            next(done)
        thread = threading.Thread(target=runner.__exit__)
        thread.start()
        thread.join()
        assert list(done) == []
    assert runner.pids == []


def test_a_runner_that_cannot_start_a_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.sweep.worker_process.sys, "executable", "/absent/python")
    with LocalRunner(1, 60, quick) as runner, pytest.raises(FleetcastError, match="cannot be started"):
        run(runner, 2)


def test_no_more_workers_start_than_there_are_points() -> None:
    with LocalRunner(8, 60, quick) as runner:
        assert len(run(runner, 2)) == 2
        assert len(runner.pids) <= 2


def test_a_worker_stays_with_its_group_and_then_helps() -> None:
    schedule = Schedule([(0, 0), (0, 1), (0, 2), (1, 3), (1, 4)])
    assert [schedule.next("a"), schedule.next("b"), schedule.next("a"), schedule.next("b")] == [0, 3, 1, 4]
    assert schedule.next("b") == 2  # helps with what is left
    assert schedule.next("a") is None
    assert not schedule
    schedule.put_back(3)
    assert len(schedule) == 1
    assert schedule.next("a") == 3


@pytest.mark.slow
@pytest.mark.parametrize("work", [quick, slow])
def test_kills_at_any_instant_cost_nothing(work: Work) -> None:
    points, end = (20_000, 0.02) if work is quick else (1_000, 0.3)
    found: dict[int, str] = {}
    kills, next_s = 0, 0.0
    with LocalRunner(2, 60, work) as runner:
        for one in runner.run(Schedule((0, index) for index in range(points)), job):
            if one is not None:
                assert one[0].index not in found
                found[one[0].index] = one[1].status
            ready = [worker.pid for worker in runner._workers if worker.ready]  # a start takes longer than our patience
            if time.monotonic() > next_s and ready and kills < 60:
                os.kill(random.choice(ready), signal.SIGKILL)
                kills += 1
                next_s = time.monotonic() + random.random() * end
    assert kills > 10
    assert sum(status == OK for status in found.values()) >= points - kills // 3
    assert sorted(found) == list(range(points))
