"""Commands that pages start: few at once, and an end in words."""

from pathlib import Path

import pytest
import streamlit as st

from app.web import job_watch
from app.web.jobs import Job, JobState, write_json


def job(folder: Path) -> Job:
    folder.mkdir(parents=True)
    record = {"arguments": ["validate"], "pid": 1, "started_unix_s": 0.0, "time_limit_s": 5.0}
    write_json(folder / "job.json", record)
    found = Job.read(folder)
    assert found is not None
    return found


def test_no_more_than_two_commands_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "poll", lambda _: JobState("running"))
    monkeypatch.setattr(st, "session_state", {})
    for name in ("one", "two"):
        job(tmp_path / name)
    job_watch.start(["validate"], tmp_path / "three")
    assert "2 commands are running already" in str(st.session_state)
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("state", "said"),
    [("finished", ""), ("stopped", "stopped;"), ("timed out", "the app's limit"), ("failed", "no such thing"),
     ("died", "no such thing")],
)  # fmt: skip
def test_an_ended_command_says_why_it_has_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, said: str
) -> None:
    ended = job(tmp_path / "one")
    (tmp_path / "one" / "stderr").write_text("a warning\nfleetcast: no such thing\n")
    monkeypatch.setattr(Job, "poll", lambda _: JobState(state))
    text = job_watch.problem(ended)
    assert said in text
    assert bool(text) == (state != "finished")
    assert "fleetcast:" not in text


def test_a_command_that_died_silently_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "poll", lambda _: JobState("died"))
    assert job_watch.problem(job(tmp_path / "one")) == "died without a word"
