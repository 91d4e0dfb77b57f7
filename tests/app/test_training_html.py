from collections.abc import Callable
from pathlib import Path

from training_step import step

from app.training_page import training_html_report
from sim.stored_run import StoredTraining, read_any_run

Command = Callable[..., tuple[int, str, str]]


def test_the_page_answers_and_needs_no_network() -> None:
    page = training_html_report(step())
    summary = step().summary
    assert page.startswith("<!doctype html>")
    assert summary["bottleneck"] in page
    assert "Pipeline" in page
    assert "pipeline_parallel_size = 4" in page
    assert "all of it" in page
    assert "<script src" not in page
    assert "<link" not in page.partition("<script>")[0]


def test_the_same_run_gives_the_same_page_also_from_its_folder(tmp_path: Path) -> None:
    step().write(tmp_path / "run")
    kept = read_any_run(tmp_path / "run")
    assert isinstance(kept, StoredTraining)
    assert training_html_report(kept) == training_html_report(step())


def test_names_of_the_user_are_text_and_not_html() -> None:
    result = step()
    scenario = result.scenario.model_copy(update={"name": "<script>alert(1)</script>"})
    page = training_html_report(type(result)(scenario, result.summary, result.run))
    assert "<script>alert(1)" not in page


def test_the_command_writes_the_page_into_the_run_folder(command: Command, tmp_path: Path) -> None:
    step().write(tmp_path / "scenario")
    code, out, err = command("run", tmp_path / "scenario" / "scenario.toml", "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    assert "open report.html" in out
    assert "a small step" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
