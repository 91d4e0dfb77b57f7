"""`fleetcast calibrate measure` as a user calls it."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from app.calibrate import add_commands, measure


def test_the_plan_is_listed_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(measure, ["--device", "cpu", "--list", "--only", "gemm", "--only", "storage"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == ["kind", "gemm", "storage"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--out is missing"),
        (["--out", "x", "--only", "gem"], "did you mean 'gemm'"),
        (["--out", "x", "--budget-s", "0"], "budget-s"),
    ],
)
def test_mistakes_are_one_sentence_and_code_2(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(measure, ["--device", "cpu", *arguments])
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_run_ends_with_a_table_and_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.measure.plans.system.GIB", 2**20)
    arguments = ["--device", "cpu", "--out", str(tmp_path / "m"), "--only", "cpu", "--budget-s", "6", "--archive"]
    done = CliRunner().invoke(measure, arguments)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("kind")
    assert done.stdout.splitlines()[1].startswith("cpu")
    assert (tmp_path / "m.tar.gz").is_file()
    assert "s left; cpu" in done.stderr


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("calibration.measure.session.measure", interrupted)
    done = CliRunner().invoke(measure, ["--device", "cpu", "--out", str(tmp_path)])
    assert done.exit_code == 130
    assert "run again to go on" in done.stderr


def test_the_command_joins_a_group() -> None:
    group = click.Group("calibrate")
    add_commands(group)
    assert "measure" in group.commands
