import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import MakeSweep
from sweep_work import HANGS, KILLS, RAISES, alive, descendants, poisoned, quick, slow

import sim.sweep.cluster
from hardware_models.errors import FleetcastError
from sim.identity import simulator_fingerprint
from sim.sweep import Progress, expand, run_sweep
from sim.sweep.cluster import INSTALL, ClusterRunner, end_runners, run_remote
from sim.sweep.point import FAILED, OK, Job, Outcome
from sim.sweep.schedule import Schedule

distributed = pytest.importorskip("distributed", reason=f"needs {INSTALL}")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the library's own
MANY = '"serving.max_num_seqs" = [4, 8, 16, 32, 64]\n"workload.rate_scale" = [0.5, 1.0]'


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
        ) as one:
            yield one


def kill_one(cluster: Any) -> None:
    os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)


def rows_of(folder: str) -> bytes:
    return Path(folder, "results.parquet").read_bytes()


def test_a_cluster_gives_the_same_bytes_and_cleans_up(make_sweep: MakeSweep, cluster: Any) -> None:
    sweep = make_sweep(MANY, f"seeds = {list(range(20))}")
    own = descendants(os.getpid())
    rows = run_sweep(sweep, "cluster", cluster=cluster.scheduler_address)
    assert list(rows["status"]) == [OK] * 200
    assert not [pid for pid in descendants(os.getpid()) - own if alive(pid)]
    run_sweep(sweep, "local", workers=2)
    assert rows_of("cluster") == rows_of("local")


def test_a_killed_dask_worker_changes_no_result(make_sweep: MakeSweep, cluster: Any) -> None:
    sweep = make_sweep(MANY, f"seeds = {list(range(20))}")
    killed = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.done >= 40 and not killed.is_set():
            killed.set()
            kill_one(cluster)

    run_sweep(sweep, "killed", cluster=cluster.scheduler_address, watch=watch)
    assert killed.is_set()
    run_sweep(sweep, "local", workers=2)
    assert rows_of("killed") == rows_of("local")


def test_poisoned_points_harm_no_dask_worker(make_sweep: MakeSweep, cluster: Any) -> None:
    sweep = make_sweep('"serving.max_num_seqs" = [64]', f"seeds = {list(range(10, 20))}\npoint_timeout_s = 3.0")
    before = {worker.pid for worker in cluster.workers.values()}
    rows = run_sweep(sweep, cluster=cluster.scheduler_address, work=poisoned).set_index("seed")
    assert sorted(rows.index[rows["status"] == FAILED]) == [KILLS, RAISES, HANGS]
    assert "killed by SIGKILL" in rows.loc[KILLS, "reason"]
    assert {worker.pid for worker in cluster.workers.values()} == before


def test_two_sweeps_share_a_cluster_and_the_end_of_one_leaves_the_other_alone(
    make_sweep: MakeSweep, cluster: Any
) -> None:
    address = cluster.scheduler_address
    long = expand(make_sweep('"serving.max_num_seqs" = [8]', f"seeds = {list(range(400))}"))
    short = expand(make_sweep('"serving.max_num_seqs" = [16]', f"seeds = {list(range(10))}"))
    half_way, found = threading.Event(), []

    def watch(progress: Progress) -> None:
        if progress.done >= 20:
            half_way.set()

    def run_long() -> None:
        try:
            found.extend(run_sweep(long, cluster=address, work=slow, watch=watch)["status"])
        finally:
            half_way.set()

    thread = threading.Thread(target=run_long)
    thread.start()
    half_way.wait(60)
    assert list(run_sweep(short, cluster=address, work=slow)["status"]) == [OK] * 10
    assert thread.is_alive()
    thread.join(120)
    assert found == [OK] * 400


def test_answers_lost_with_their_dask_worker_are_got_again(cluster: Any) -> None:
    points = range(6)
    with ClusterRunner(cluster.scheduler_address, 60, quick) as runner:
        done = runner.run(Schedule((0, index) for index in points), lambda index: Job(index, str(index), {}))
        found = [next(one for one in done if one is not None)]
        time.sleep(1)  # the others end meanwhile, and their answers wait at the workers
        kill_one(cluster)
        found += [one for one in done if one is not None]
    assert sorted(job.index for job, _ in found) == list(points)
    assert {outcome.status for _, outcome in found} == {OK}


class Answer:
    """A future that its scheduler has given up, or goes back on."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)

    @property
    def status(self) -> str:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def add_done_callback(self, call: Any) -> None:
        call(self)

    def result(self, timeout: float) -> Outcome:
        return Outcome(OK)


class Scheduler:
    """As much of Dask's client as a runner uses."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.there, self.keys = list(answers), True, set[str]()

    def submit(self, *_: Any, key: str) -> Answer:
        self.keys.add(key)
        return self.answers.pop(0)

    def nthreads(self) -> dict[str, int]:
        if not self.there:
            raise OSError("gone")
        return {"tcp://worker": 1}


def runner_of(scheduler: Scheduler) -> ClusterRunner:
    runner = ClusterRunner("tcp://x:1", 60, quick)
    runner._client = scheduler
    return runner


def run_one(runner: ClusterRunner) -> list[Outcome]:
    done = runner.run(Schedule([(0, 0)]), lambda index: Job(index, "x", {}))
    return [one[1] for one in done if one is not None]


def test_an_answer_that_is_pending_again_is_waited_for() -> None:
    assert run_one(runner_of(Scheduler(Answer("pending", "pending", "finished")))) == [Outcome(OK)]


def test_a_point_that_the_scheduler_forgot_is_sent_again_while_it_is_there() -> None:
    scheduler = Scheduler(Answer("cancelled"), Answer("lost"), Answer("finished"))
    assert run_one(runner_of(scheduler)) == [Outcome(OK)]
    assert len(scheduler.keys) == 3


def test_a_scheduler_that_is_gone_ends_the_sweep() -> None:
    scheduler = Scheduler(Answer("cancelled"))
    runner = runner_of(scheduler)
    runner._look()
    scheduler.there = False
    with pytest.raises(FleetcastError, match="its scheduler is gone"):
        run_one(runner)


def test_runners_on_a_dask_worker_end_with_their_own_sweep() -> None:
    fingerprint = simulator_fingerprint()
    for label in ("one", "other"):
        assert run_remote(Job(1, "x", {}), 60, quick, fingerprint, label).status == OK
    kept = sim.sweep.cluster._runners[("other", threading.get_ident())]
    end_runners("one")
    assert [label for label, _ in sim.sweep.cluster._runners] == ["other"]
    assert all(alive(pid) for pid in kept.pids)
    end_runners("other")
    assert not sim.sweep.cluster._runners


def test_a_worker_of_another_version_is_refused(
    make_sweep: MakeSweep, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.sweep.cluster.simulator_fingerprint", lambda: "another")
    with pytest.raises(FleetcastError, match="its simulator is of another version"):
        run_sweep(make_sweep(), cluster=cluster.scheduler_address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "tcp://", "http://127.0.0.1:1", "tcp://x:y"])
def test_an_address_without_a_scheduler_is_one_sentence(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr("sim.sweep.cluster.CONNECT_S", 1)
    with pytest.raises(FleetcastError, match="no Dask scheduler answers"):
        run_sweep(make_sweep(), "out", cluster=address)
    assert not Path("out").exists()


def test_without_distributed_the_install_command_is_named(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(FleetcastError, match="needs Dask's distributed; pip install"):
        run_sweep(make_sweep(), cluster="tcp://127.0.0.1:1")


def test_workers_and_cluster_exclude_each_other(make_sweep: MakeSweep) -> None:
    with pytest.raises(FleetcastError, match="--workers: goes without --cluster"):
        run_sweep(make_sweep(), cluster="tcp://127.0.0.1:1", workers=2)


@pytest.mark.slow
def test_a_thousand_points_survive_a_killed_dask_worker(make_sweep: MakeSweep, cluster: Any) -> None:
    sweep = make_sweep(MANY, f"seeds = {list(range(100))}")
    killed: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.done >= 300 * (len(killed) + 1):
            killed.append(progress.done)
            kill_one(cluster)

    rows = run_sweep(sweep, "killed", cluster=cluster.scheduler_address, watch=watch)
    assert len(killed) == 3
    assert list(rows["status"]) == [OK] * 1000
    run_sweep(sweep, "local", workers=2)
    assert rows_of("killed") == rows_of("local")
