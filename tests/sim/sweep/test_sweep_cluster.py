import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import MakeSweep
from sweep_work import HANGS, KILLS, RAISES, alive, descendants, poisoned

from hardware_models.errors import FleetcastError
from sim.sweep import Progress, run_sweep
from sim.sweep.cluster import INSTALL
from sim.sweep.point import FAILED, OK

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
