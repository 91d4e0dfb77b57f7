import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from app.sweep_progress import progress_text, time_text
from sim.sweep import Progress, read_sweep, run_sweep

Fleetcast = Callable[..., int]
COMMAND = [sys.executable, "-c", "from app.cli import main; main()"]
ROOT = Path(__file__).parents[2]
SWEEP = """
schema = 1
scenario = "small.toml"
seeds = [1, 2]
constraints = ["serving.max_num_seqs < 100"]
[axes]
"serving.max_num_seqs" = [1, 64, 128]
"serving.tensor_parallel_size" = [1, 2, 3]
[goal]
maximize = "output_tokens_per_s_per_gpu"
subject_to = ["ttft_s.p99 <= 500ms"]
"""


@pytest.fixture
def sweep(folder: Path) -> Path:
    """A sweep of eight feasible and four infeasible points."""
    (folder / "s.toml").write_text(SWEEP)
    return folder


def files_of(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_the_report_answers_what_was_asked(
    sweep: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(sweep)
    assert fleetcast("sweep", "s.toml", "--workers", "1") == 0
    out = capsys.readouterr().out
    assert "12 points: 6 settings (grid) x 2 seeds" in out
    assert "asked: highest output tokens a GPU, TTFT p99 <= 500 ms" in out
    assert "best: output tokens a GPU" in out
    assert "TTFT p99 <= 500 ms: kept" in out
    assert "what moves output tokens a GPU" in out
    assert "4 points infeasible" in out
    assert "4 x serving.tensor_parallel_size = 3: does not divide" in out
    assert "add --out DIR" in out
    assert files_of(sweep) == before


def test_a_folder_holds_rows_report_and_a_best_scenario_that_runs(
    sweep: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleetcast("sweep", "s.toml", "--workers", "1", "--out", "deep/out") == 0
    out = sweep / "deep" / "out"
    assert "open report.html; next: fleetcast run deep/out/best.toml" in capsys.readouterr().out
    at_the_end = {"results.parquet", "best.toml", "report.html"}
    names = {path.name for path in out.iterdir()}
    assert names == {".lock", "sweep.toml", "points.parquet", "parts", "progress.json"} | at_the_end
    rows = pd.read_parquet(out / "results.parquet")
    assert list(rows["index"]) == list(range(12))
    assert json.loads((out / "progress.json").read_text())["state"] == "finished"
    page = (out / "report.html").read_text()
    assert "best: output tokens a GPU" in page
    assert "<script src" not in page
    assert "<link" not in page
    assert fleetcast("run", "deep/out/best.toml", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    best = rows[rows["status"] == "ok"].groupby("serving.tensor_parallel_size")["output_tokens_per_s_per_gpu"].max()
    assert summary["output_tokens_per_s_per_gpu"] in best.to_numpy()
    first = (out / "results.parquet").read_bytes(), page
    assert fleetcast("sweep", "s.toml", "--out", "deep/out") == 0
    assert ((out / "results.parquet").read_bytes(), (out / "report.html").read_text()) == first
    assert fleetcast("sweep", "deep/out/sweep.toml", "--out", "again", "--reuse", "deep/out") == 0
    assert (sweep / "again/results.parquet").read_bytes() == first[0]


def test_json_is_all_that_is_printed_and_strict(
    sweep: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleetcast("sweep", "s.toml", "--workers", "1", "--json") == 0

    def strict(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(capsys.readouterr().out, parse_constant=strict)
    assert found["statuses"] == {"ok": 8, "infeasible": 4}
    assert set(found["best"]["settings"]) == {"serving.max_num_seqs", "serving.tensor_parallel_size"}
    assert found["best"]["figures"]["output_tokens_per_s_per_gpu"] > 0
    assert found["reasons"][0]["points"] == 4


def test_a_dry_run_counts_and_estimates_and_writes_nothing(
    sweep: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(sweep)
    assert fleetcast("sweep", "s.toml", "--dry-run", "--out", "out", "--workers", "1") == 0
    out = capsys.readouterr().out
    assert "constraints leave out 3 more" in out
    assert "12 to run, 0 known already" in out
    assert re.search("about .* on 1 worker: 6 timed points took .* ms each", out)
    assert "nothing was written" in out
    assert files_of(sweep) == before
    assert fleetcast("sweep", "s.toml", "--out", "out", "--workers", "1") == 0
    before = files_of(sweep)
    capsys.readouterr()
    assert fleetcast("sweep", "s.toml", "--dry-run", "--out", "out", "--set", "seeds=[2, 3]", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["points"], found["cached"], found["pending"]) == (12, 6, 6)
    assert found["excluded_by_constraints"] == 3
    assert files_of(sweep) == before


def test_no_setting_within_the_limits_names_the_nearest(
    sweep: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = 'goal.subject_to=["ttft_s.p99 <= 1us"]'
    assert fleetcast("sweep", "s.toml", "--out", "out") == 0
    assert fleetcast("sweep", "s.toml", "--out", "out", "--set", limits) == 0
    out = capsys.readouterr().out
    assert "no setting keeps every limit; the nearest breaks TTFT p99 <= 0.001 ms" in out
    assert not (sweep / "out" / "best.toml").exists()
    assert "no setting keeps every limit" in (sweep / "out" / "report.html").read_text()


MISTAKES = [
    (["sweep"], "Missing argument 'SWEEP'"),
    (["sweep", "absent.toml"], "absent.toml: no such file"),
    (["sweep", "small.toml"], "unknown key"),
    (["sweep", "s.toml", "--workers", "0"], "--workers 0: give a number from 1 to 1024"),
    (["sweep", "s.toml", "--workers", "many"], "is not a valid integer"),
    (["sweep", "s.toml", "--workers", "2", "--cluster", "tcp://x:1"], "--workers: goes without --cluster"),
    (["sweep", "s.toml", "--reuse", "absent"], "--reuse absent: is no folder of a sweep"),
    (["sweep", "s.toml", "--out", "s.toml"], "--out s.toml: is a file"),
    (["sweep", "s.toml", "--out", "."], "is the folder you are in"),
    (["sweep", "s.toml", "--set", "sample=3"], "unknown key 'sample'"),
    (["sweep", "s.toml", "--set", "seeds"], "write it as key=value"),
    (["sweep", "s.toml", "--set", "axes.serving.max_num_seqs=3"], "give a list of values"),
    (["sweep", "s.toml", "--set", "goal.maximize=tokens"], "goal.maximize: unknown name 'tokens'"),
    (["sweep", "s.toml", "--dry-run", "--out", "three.csv"], "--out three.csv: is a file"),
    (["sweep", "s.toml", "--dry-run", "--set", "model.config=absent"], "model.config"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    sweep: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    before = files_of(sweep)
    assert fleetcast(*arguments) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert files_of(sweep) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_is_done_and_the_same_command_goes_on(sweep: Path, number: signal.Signals) -> None:
    settings = ["--workers", "2"]  # points of some 20 ms
    for override in (f"seeds={list(range(12))}", "workload.trace=azure-conv-2023", "workload.duration_s=40"):
        settings += ["--set", override]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*COMMAND, "sweep", "s.toml", "--out", "out", *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment,
    )  # fmt: skip
    progress = sweep / "out" / "progress.json"
    while not progress.exists() or json.loads(progress.read_text())["done"] == 0:
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "fleetcast: interrupted; what is done is kept in out; run it again to go on"
    assert json.loads(progress.read_text())["state"] == "stopped"
    assert not (sweep / "out/results.parquet").exists()
    kept = len(read_sweep(sweep / "out"))
    assert 0 < kept < 72
    again = [*COMMAND, "sweep", "s.toml", "--out", "out", *settings]
    subprocess.run(again, check=True, env=environment, capture_output=True)
    assert json.loads(progress.read_text())["cached"] == kept
    assert len(pd.read_parquet(sweep / "out/results.parquet")) == 72


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios" / "sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_sweeps_are_sound(
    fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str], path: Path, folder: Path
) -> None:
    assert fleetcast("sweep", str(path), "--dry-run", "--workers", "1") == 0
    assert "about" in capsys.readouterr().out


def test_the_two_lines_of_the_documentation_work(sweep: Path) -> None:
    text = (ROOT / "docs" / "sweeps.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0].replace("scenarios/sweeps/batch-size.toml", "s.toml")
    assert len([line for line in code.splitlines() if line and "import" not in line]) == 2
    assert "run_sweep" in code
    names: dict[str, object] = {"run_sweep": run_sweep}
    exec(code, names)
    assert len(names["frame"]) == 12  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(total=10), "0 of 10 points (0%)"),
        (Progress(total=10, done=10, cached=10), "10 of 10 points (100%), 10 known before"),
        (
            Progress(total=2000, done=1000, failed=2, message="waiting"),
            "1,000 of 2,000 points (50%), 2 failed, waiting",
        ),
    ],
)
def test_progress_is_one_line(progress: Progress, text: str) -> None:
    assert progress_text(progress) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.1, "1 s"), (40, "40 s"), (200, "3 min"), (9000, "2.5 h")])
def test_times_are_said_in_their_unit(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
