import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sweep_cases import MakeSweep
from sweep_work import HANGS, KILLS, RAISES, alive, descendants, poisoned, quick, slow

import sim.sweep.parts
from hardware_models.errors import FleetcastError
from sim import load_scenario
from sim.identity import scenario_id
from sim.run import run
from sim.sweep import Progress, SweepStoppedError, expand, read_sweep, run_sweep
from sim.sweep.columns import VALUE_COLUMNS
from sim.sweep.folder import locked
from sim.sweep.parts import PART_SCHEMA, Parts, part_table, read_parts
from sim.sweep.point import FAILED, OK, Job, Outcome
from sim.sweep.points import Points
from sim.sweep.rows import known_rows
from sim.sweep.runner import make_runner

ROOT = Path(__file__).parents[3]
MANY = '"serving.max_num_seqs" = [4, 8, 16, 32, 64]\n"workload.rate_scale" = [0.5, 1.0]'
PARENT = """
import sys
from sim.sweep import run_sweep
sys.path.insert(0, {helpers!r})
from sweep_work import slow
run_sweep("s.toml", "out", workers=2, work=slow)
"""


def rows_of(folder: Path) -> bytes:
    return (folder / "results.parquet").read_bytes()


def progress_of(folder: Path) -> dict[str, object]:
    record: dict[str, object] = json.loads((folder / "progress.json").read_text())
    return record


def test_rows_are_those_of_single_runs(make_sweep: MakeSweep, folder: Path) -> None:
    rows = run_sweep(make_sweep(), workers=2)
    assert list(rows["index"]) == list(range(8))
    assert set(rows["status"]) == {OK}
    for _, row in rows.iterrows():
        settings = [f"{key}={row[key]}" for key in ("serving.max_num_seqs", "workload.rate_scale", "seed")]
        summary = run(load_scenario(folder / "small.toml", tuple(settings))).summary
        assert row["ttft_s.p99"] == summary["ttft_s"]["p99"]
        assert row["output_throughput"] == summary["output_throughput"]
        assert [row["ttft_s.p99.low"], row["ttft_s.p99.high"]] == summary["interval_90"]["ttft_s"]["p99"]
        assert row["output_tokens_per_s_per_user"] == 1 / summary["tpot_s"]["mean"]
        assert row["bottleneck"] == summary["bottleneck"]
        assert row["point_id"] == scenario_id(load_scenario(folder / "small.toml", tuple(settings)))
    assert list(folder.iterdir()) != []
    assert not (folder / "out").exists()


def test_results_are_the_same_bytes_whatever_ran_them(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    frames = [run_sweep(sweep, name, workers=workers) for name, workers in (("a", 1), ("b", 3))]
    assert rows_of(Path("a")) == rows_of(Path("b"))
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    pd.testing.assert_frame_equal(frames[0], run_sweep(sweep), check_exact=True)
    assert "wall_s" not in frames[0]


def test_a_stopped_sweep_goes_on_and_ends_the_same(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(MANY)
    stop = Event()

    def watch(progress: Progress) -> None:
        if progress.done >= 7:
            stop.set()

    with pytest.raises(SweepStoppedError):
        run_sweep(sweep, "out", workers=2, watch=watch, stop=stop)
    record = progress_of(Path("out"))
    assert record["state"] == "stopped"
    kept = len(read_sweep(Path("out")))
    assert 7 <= kept < 20
    assert not Path("out/results.parquet").exists()
    cached: list[int] = []
    run_sweep(sweep, "out", workers=2, watch=lambda progress: cached.append(progress.cached))
    assert cached[-1] == kept
    assert progress_of(Path("out"))["state"] == "finished"
    run_sweep(sweep, "whole", workers=2)
    assert rows_of(Path("out")) == rows_of(Path("whole"))


def test_a_killed_parent_leaves_a_folder_to_go_on_from_and_no_workers(make_sweep: MakeSweep, folder: Path) -> None:
    seeds = f"seeds = {list(range(40))}"
    sweep = make_sweep(MANY, seeds)
    code = PARENT.format(helpers=str(Path(__file__).parent))
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not list((folder / "out" / "parts").glob("*.parquet")):
        time.sleep(0.05)
        assert parent.poll() is None
    workers = descendants(parent.pid)
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.05)
    kept = len(read_sweep(Path("out")))
    assert kept > 0
    cached: list[int] = []
    run_sweep(sweep, "out", workers=2, watch=lambda progress: cached.append(progress.cached), work=quick)
    assert cached[-1] == kept
    run_sweep(sweep, "whole", workers=2, work=quick)
    assert rows_of(Path("out")) == rows_of(Path("whole"))


def test_killed_workers_change_no_result(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(MANY, f"seeds = {list(range(20))}")
    killed: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.done >= 50 * (len(killed) + 1):
            killed.append(min(descendants(os.getpid())))
            os.kill(killed[-1], signal.SIGKILL)

    rows = run_sweep(sweep, "killed", workers=2, watch=watch)
    assert len(killed) >= 3
    assert list(rows["status"]) == [OK] * 200
    run_sweep(sweep, "whole", workers=2)
    assert rows_of(Path("killed")) == rows_of(Path("whole"))


def test_poisoned_points_are_rows_and_are_tried_again_next_time(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(AXIS, f"seeds = {list(range(10, 20))}\npoint_timeout_s = 3.0")
    rows = run_sweep(sweep, "out", workers=2, work=poisoned).set_index("seed")
    failed = rows[rows["status"] == FAILED]
    assert sorted(failed.index) == [KILLS, RAISES, HANGS]
    assert failed["ttft_s.p99"].isna().all()
    assert "killed by SIGKILL" in failed.loc[KILLS, "reason"]
    assert set(rows.drop(index=failed.index)["status"]) == {OK}
    assert progress_of(Path("out"))["failed"] == 3
    again = run_sweep(sweep, "out", workers=2)
    assert set(again["status"]) == {OK}
    run_sweep(sweep, "whole", workers=2)
    assert rows_of(Path("out")) == rows_of(Path("whole"))


AXIS = '"serving.max_num_seqs" = [64]'


def test_infeasible_deployments_are_rows_with_their_reason(make_sweep: MakeSweep) -> None:
    axes = '"serving.tensor_parallel_size" = [1, 3]\n"model.config" = ["llama-3.1-8b", "llama-3.1-70b"]'
    rows = run_sweep(make_sweep(axes, "seeds = [1]"), workers=1)
    assert list(rows["status"]) == [OK, "infeasible", "infeasible", "infeasible"]
    assert "does not fit" in rows["reason"][1]
    assert "does not divide" in rows["reason"][2]


def test_combinations_that_validation_refuses_are_rows_too(make_sweep: MakeSweep) -> None:
    axes = '"serving.max_num_seqs" = [64, 4096]\n"serving.max_num_batched_tokens" = [2048, 8192]'
    rows = run_sweep(make_sweep(axes, "seeds = [1]"), "out", workers=1)
    assert list(rows["status"]) == [OK, OK, "infeasible", OK]
    assert "is less than serving.max_num_seqs = 4096" in rows["reason"][2]
    counts: list[int] = []
    run_sweep(make_sweep(axes, "seeds = [1]"), "out", watch=lambda progress: counts.append(progress.cached))
    assert counts[-1] == 4


def test_another_sweep_and_another_folder_share_points(make_sweep: MakeSweep) -> None:
    run_sweep(make_sweep('"serving.max_num_seqs" = [8, 16]', "seeds = [1]"), "first", workers=1)
    wider = make_sweep('"serving.max_num_seqs" = [16, 32]', "seeds = [1, 2]")
    cached: list[int] = []
    rows = run_sweep(wider, "second", workers=1, reuse=["first"], watch=lambda one: cached.append(one.cached))
    assert cached[-1] == 1
    assert list(rows["serving.max_num_seqs"]) == [16, 16, 32, 32]
    pd.testing.assert_frame_equal(rows, run_sweep(wider, workers=1), check_exact=True)
    assert len(read_parts(Path("second"))) == 4  # stands alone from now on
    run_sweep(wider, "first", workers=1, watch=lambda one: cached.append(one.cached))
    assert cached[-1] == 1


def test_reuse_of_a_folder_that_is_no_sweep_is_refused(make_sweep: MakeSweep, folder: Path) -> None:
    with pytest.raises(FleetcastError, match="--reuse absent: is no folder of a sweep"):
        run_sweep(make_sweep(), reuse=["absent"])


def test_two_sweeps_do_not_write_to_one_folder(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()

    def watch(progress: Progress) -> None:
        if progress.state == "running" and progress.done:
            with pytest.raises(FleetcastError, match="another sweep is writing"):
                run_sweep(sweep, "out")

    run_sweep(sweep, "out", workers=1, watch=watch)


@pytest.mark.parametrize("stranger", ["thesis.doc", "summary.json"])
def test_a_folder_of_something_else_is_refused(make_sweep: MakeSweep, stranger: str) -> None:
    Path("out").mkdir()
    Path("out", stranger).write_text("x")
    with pytest.raises(FleetcastError, match="--out out"):
        run_sweep(make_sweep(), "out")
    assert [path.name for path in Path("out").iterdir()] == [stranger]


def test_a_sweep_in_a_folder_runs_again_from_its_own_file(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sweep(make_sweep(), "deep/out", workers=1)
    monkeypatch.chdir("deep")
    cached: list[int] = []
    run_sweep("out/sweep.toml", "again", reuse=["out"], watch=lambda one: cached.append(one.cached))
    assert cached[-1] == 8
    assert rows_of(Path("out")) == rows_of(Path("again"))


def outcome(index: int, status: str = OK) -> tuple[Job, Outcome]:
    return Job(index, f"{index:04d}", {}), Outcome(status, figures=(float(index),) * len(VALUE_COLUMNS))


def test_parts_stay_few_and_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.sweep.parts, "MERGED", 4)
    parts = Parts(tmp_path / "parts")
    parts.open()
    for index in range(70):
        parts.append(part_table([outcome(index)]))
        assert len(list((tmp_path / "parts").iterdir())) <= 3 * 4 + 4
    frame = read_parts(tmp_path)
    assert sorted(frame.index) == [f"{index:04d}" for index in range(70)]
    assert np.array_equal(np.sort(frame["mfu"].to_numpy()), np.arange(70.0))


def test_an_answer_beats_a_failure_whichever_came_first(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    parts.open()
    parts.append(part_table([outcome(0), outcome(1, FAILED)]))
    parts.append(part_table([outcome(0, FAILED), outcome(1)]))
    assert set(read_parts(tmp_path)["status"]) == {OK}


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".0-00000001.parquet.tmp").write_bytes(b"PAR1 half")
    parts = Parts(tmp_path / "parts")
    parts.open()
    parts.append(part_table([outcome(0)]))
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["0-00000001.parquet"]


def test_a_damaged_part_is_named_and_one_of_another_version_passed_over(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    parts.open()
    parts.append(part_table([outcome(0)]))
    pq.write_table(part_table([outcome(1)]).drop_columns(["mfu"]), tmp_path / "parts" / "0-00000009.parquet")
    assert list(read_parts(tmp_path).index) == ["0000"]
    (tmp_path / "parts" / "0-00000010.parquet").write_bytes(b"no parquet")
    with pytest.raises(FleetcastError, match=r"0-00000010\.parquet: cannot be read .*delete it"):
        read_parts(tmp_path)


def test_parts_of_another_version_are_left_out_of_merging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.sweep.parts, "MERGED", 4)
    other = part_table([outcome(99)]).drop_columns(["mfu"])
    (tmp_path / "parts").mkdir()
    for number in range(1, 6):
        pq.write_table(other, tmp_path / "parts" / f"0-{number:08d}.parquet")
    parts = Parts(tmp_path / "parts")
    parts.open()
    for index in range(20):
        parts.append(part_table([outcome(index)]))
    assert sorted(read_parts(tmp_path).index) == [f"{index:04d}" for index in range(20)]
    assert all(pq.read_table(tmp_path / "parts" / f"0-{number:08d}.parquet").equals(other) for number in range(1, 6))
    assert len(list((tmp_path / "parts").iterdir())) <= 5 + 2 * 4


def test_a_part_damaged_before_it_is_merged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.sweep.parts, "MERGED", 2)
    parts = Parts(tmp_path / "parts")
    parts.open()
    parts.append(part_table([outcome(0)]))
    next((tmp_path / "parts").iterdir()).write_bytes(b"no parquet")
    with pytest.raises(FleetcastError, match=r"0-00000001\.parquet: cannot be read .*delete it"):
        parts.append(part_table([outcome(1)]))


def test_a_folder_is_locked_before_its_rows_are_read(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def known(points: Points, folder: Path, reuse: list[str]) -> pd.DataFrame:
        with pytest.raises(FleetcastError, match="another sweep is writing"), locked(folder):
            pass
        read.append(folder)
        return known_rows(points, folder, reuse)

    monkeypatch.setattr("sim.sweep.runner.known_rows", known)
    run_sweep(make_sweep(), "out", workers=1, work=quick)
    assert read == [Path("out")]


def test_a_trace_that_was_gone_for_a_moment_leaves_no_row_that_lasts(make_sweep: MakeSweep) -> None:
    text = "arrival_s,prompt_tokens,output_tokens\n0,100,10\n1,50,1\n"
    Path("t.csv").write_text(text)
    sweep = make_sweep('"serving.max_num_seqs" = [8, 16]\n"workload.trace" = ["./t.csv"]', "seeds = [1]")
    points = expand(sweep)
    Path("t.csv").unlink()
    assert list(run_sweep(points, "out", workers=1)["status"]) == [FAILED, FAILED]
    Path("t.csv").write_text(text)
    assert list(run_sweep(sweep, "out", workers=1)["status"]) == [OK, OK]


def test_without_affinity_there_are_as_many_workers_as_cores(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert make_runner(make_sweep(), None, None).size == 3


def test_rows_hold_texts_and_numbers_only() -> None:
    assert part_table([]).schema == PART_SCHEMA
    assert set(map(str, PART_SCHEMA.types)) == {"string", "double"}


@pytest.mark.slow
def test_a_thousand_points_survive_killed_workers(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(MANY, f"seeds = {list(range(100))}")
    killed: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.done >= 100 * (len(killed) + 1):
            killed.append(min(descendants(os.getpid())))
            os.kill(killed[-1], signal.SIGKILL)

    rows = run_sweep(sweep, "killed", workers=2, watch=watch)
    assert len(killed) >= 9
    assert list(rows["status"]) == [OK] * 1000
    run_sweep(sweep, "whole", workers=2)
    assert rows_of(Path("killed")) == rows_of(Path("whole"))


def test_progress_counts_and_foretells(make_sweep: MakeSweep) -> None:
    seen: list[tuple[int, float | None]] = []
    run_sweep(make_sweep(), "out", workers=2, work=slow, watch=lambda one: seen.append((one.done, one.eta_s)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (8, 0.0)
    record = progress_of(Path("out"))
    assert record["total"] == record["done"] == 8
    assert {"state", "cached", "failed", "elapsed_s", "eta_s", "pid", "message"} <= set(record)
