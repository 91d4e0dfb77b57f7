"""A small scenario on disk, and runs of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli import main
from sim.result import Result
from sim.run import run
from sim.scenario_file import load_scenario

Command = Callable[..., tuple[int, str, str]]
SCENARIO = """
name = "small"
[model]
config = "llama-3.1-8b"
[cluster]
node = "dgx-h100"
[serving]
max_num_seqs = 64
[workload]
trace = "three.csv"
[slo]
ttft_s = 0.5
tbt_s = 0.1
"""
TRACE = "arrival_s,prompt_tokens,output_tokens\n0,100,10\n0.5,200,20\n1,50,1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: small.toml and its trace."""
    (tmp_path / "small.toml").write_text(SCENARIO)
    (tmp_path / "three.csv").write_text(TRACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def simulate(folder: Path) -> Callable[..., Result]:
    """Run small.toml with overrides."""
    return lambda *overrides: run(load_scenario(folder / "small.toml", overrides))


@pytest.fixture
def fleetcast(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, in this process; returns its exit code."""

    def call(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["fleetcast", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in this process; returns its exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["fleetcast", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
