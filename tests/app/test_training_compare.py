import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_step import plan, step

from app.compare import RunFolder, comparison_lines, different_settings, reason
from app.training_reason import WORDS, training_reason
from sim.result import Result
from sim.training.result import run_training

Command = Callable[..., tuple[int, str, str]]


def run_folder(place: Path, **training: Any) -> RunFolder:
    run_training(plan(**training)).write(place)
    return RunFolder.read(place)


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    return [run_folder(tmp_path / "a"), run_folder(tmp_path / "b", recompute="full")]


def test_settings_metrics_and_shares_of_training_runs_stand_side_by_side(runs: list[RunFolder]) -> None:
    assert list(different_settings(runs)) == ["training.recompute.name"]
    text = "\n".join(comparison_lines(runs))
    for wanted in ("step ", "MFU", "memory of the fullest GPU", "pipeline bubbles", "time launch", "energy of a token"):
        assert wanted in text
    assert "TTFT" not in text


def test_the_reason_says_what_the_seconds_went_to_and_they_sum_to_the_change(runs: list[RunFolder]) -> None:
    before, after = (run.summary for run in runs)
    text = reason(*runs)
    change = after["step_s"] - before["step_s"]
    assert text.startswith(f"the step takes {change:.4g}"[:22])
    assert "arithmetic +" in text
    moved = [after["bound_by"][key] * after["step_s"] - before["bound_by"][key] * before["step_s"] for key in WORDS]
    assert sum(moved) == pytest.approx(change)


def test_steps_of_other_batches_are_set_against_each_other_by_token(runs: list[RunFolder], tmp_path: Path) -> None:
    larger = run_folder(tmp_path / "c", global_batch_size=128)
    text = reason(runs[0], larger)
    assert re.match(r"a million tokens take [\d.]+ GPU-seconds less \(-", text)
    assert "waiting -" in text


def test_a_run_against_itself_has_moved_nothing() -> None:
    assert training_reason(step().summary, step().summary).startswith("nothing moved by more than 0.5%")


def test_runs_of_two_kinds_are_refused_in_a_sentence(
    command: Command, simulate: Callable[..., Result], tmp_path: Path
) -> None:
    simulate().write(tmp_path / "serving")
    step().write(tmp_path / "training")
    code, _, err = command("compare", tmp_path / "serving", tmp_path / "training")
    assert code == 2
    assert "is a run of serving" in err
    assert "one of training; give runs of one kind" in err
