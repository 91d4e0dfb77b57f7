import os
import time
from pathlib import Path

import pytest

from app.web import store as module
from app.web.jobs import Job, JobState, write_json
from app.web.store import Store, check_upload_name
from hardware_models.errors import FleetcastError, UnknownNameError
from sim.run import run
from sim.scenario_file import parse_scenario
from sim.stored_run import StoredRun

RUN = "0123456789abcdef"
TABLES = {
    "model": {"config": "llama-3.1-8b"},
    "cluster": {"node": "dgx-h100"},
    "workload": {"trace": "azure-conv-2023", "num_requests": 5},
}


def keep(folder: Path) -> None:
    tables = {name: dict(table) for name, table in TABLES.items()}
    run(parse_scenario(tables, "x", folder)).write(folder)


def test_a_run_is_found_by_its_identity_and_by_its_folder_inside(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store.result_folder(RUN))
    keep(tmp_path / "mine")
    assert store.has(RUN)
    assert isinstance(store.run(RUN), StoredRun)
    assert len(store.run("mine").requests) == 5


@pytest.mark.parametrize("name", ["..", "../x", "/etc", ".", "", "results/../..", "a" * 5000, "x\0y", "absent", "link"])
def test_no_folder_outside_is_read(tmp_path: Path, name: str) -> None:
    inside, outside = tmp_path / "in", tmp_path / "x"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    with pytest.raises(FleetcastError, match="is no folder inside"):
        Store(inside).run(name)


@pytest.mark.parametrize("name", ["..", "0123", RUN.upper(), "x/../y", f"{RUN}\n"])
def test_what_is_no_identity_names_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(FleetcastError, match="is no identity"):
        Store(tmp_path).result_folder(name)


def test_a_run_that_was_dropped_says_so(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match="is not kept here"):
        Store(tmp_path).run(RUN)


def test_uploads_are_kept_by_bare_names_and_listed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.files(store.uploads, (".csv",)) == []
    store.keep_upload("t.csv", b"a,b\n", 100)
    store.keep_upload("t.csv", b"c,d\n", 100)
    (store.uploads / "link.csv").symlink_to("/etc/passwd")
    (store.uploads / "folder.csv").mkdir()
    assert store.files(store.uploads, (".csv",)) == ["t.csv"]
    assert store.file(store.uploads, "t.csv", (".csv",), "here").read_bytes() == b"c,d\n"
    with pytest.raises(UnknownNameError, match=r"here: unknown name 'link\.csv'"):
        store.file(store.uploads, "link.csv", (".csv",), "here")


@pytest.mark.parametrize("name", ["../t.csv", "/t.csv", ".t.csv", "", "a" * 101 + ".csv", "t.py", "t", "t.csv\n"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(FleetcastError):
        check_upload_name(name)


def test_a_file_too_large_is_refused_with_its_size(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match=r"has 11 bytes; the app takes files of at most 10"):
        Store(tmp_path).keep_upload("t.csv", b"x" * 11, 10)
    assert not (tmp_path / "uploads").exists()


def test_all_uploads_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPLOADS_LIMIT_BYTES", 15)
    store = Store(tmp_path)
    store.keep_upload("a.csv", b"x" * 10, 10)
    with pytest.raises(FleetcastError, match="would exceed"):
        store.keep_upload("b.csv", b"x" * 10, 10)


def test_what_was_looked_at_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESULTS_LIMIT_BYTES", 250)
    store = Store(tmp_path)
    store.prune()
    for age, name in enumerate(("a", "b", "c")):
        folder = store.result_folder(name * 16)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_bytes(b"x" * 100)
        os.utime(folder, (1000 - age, 1000 - age))
    store.prune()
    assert [store.has(name * 16) for name in ("a", "b", "c")] == [True, True, False]


def job(store: Store, name: str, age: float, size: int = 100, ended: bool = True) -> Path:
    """The folder of a job begun so long ago, of a process that is not there any more unless it is this one's."""
    folder = store.jobs / name
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {"arguments": [], "pid": os.getpid(), "started_unix_s": 0.0, "time_limit_s": 1.0})
    if ended:
        write_json(folder / "done.json", {"state": "finished", "exit_code": 0, "elapsed_s": 1.0})
    (folder / "stdout").write_bytes(b"x" * size)
    os.utime(folder, (time.time() - age, time.time() - age))
    return folder


def test_the_oldest_ended_jobs_go_with_their_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOBS_LIMIT_BYTES", 2500)
    monkeypatch.setattr(Job, "poll", lambda self: JobState("running" if self.folder.name == "old" else "finished"))
    store = Store(tmp_path)
    store.prune_jobs()
    for age, name in enumerate(("new", "sweep-b", "sweep-a", "old")):
        job(store, name, 1000.0 * (age + 1))
    for name in ("a", "b", "without-job"):
        (store.sweeps / name / "parts").mkdir(parents=True)
        (store.sweeps / name / "parts" / "0-0.parquet").write_bytes(b"x" * 1000)
        os.utime(store.sweeps / name, (1000, 1000))
    store.prune_jobs()
    assert sorted(path.name for path in store.jobs.iterdir()) == ["new", "old", "sweep-b"]
    assert [path.name for path in store.sweeps.iterdir()] == ["b"]


def test_jobs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOBS_LIMIT", 2)
    store = Store(tmp_path)
    for age, name in enumerate(("a", "b", "c", "d")):
        job(store, name, 1000.0 * (age + 1))
    store.prune_jobs()
    assert sorted(path.name for path in store.jobs.iterdir()) == ["a", "b"]


def test_what_killed_processes_were_building_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for place in (store.results, store.sweeps, store.hardware):
        for name, age in ((".left-0123", 2 * module.STALE_S), (".building", 0.0), ("kept", 2 * module.STALE_S)):
            (place / name).mkdir(parents=True)
            (place / name / "file").write_text("x")
            os.utime(place / name, (time.time() - age, time.time() - age))
    store.uploads.mkdir()
    (store.uploads / ".half.csv").write_text("x")
    os.utime(store.uploads / ".half.csv", (1000, 1000))
    store.prune()
    for place in (store.results, store.sweeps, store.hardware):
        assert sorted(path.name for path in place.iterdir()) == [".building", "kept"]
    assert list(store.uploads.iterdir()) == []
