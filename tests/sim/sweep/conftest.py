"""A small sweep on disk, in a folder of its own."""

from pathlib import Path

import pytest
from sweep_cases import MakeSweep

from sim.sweep.definition import Sweep, load_sweep

SCENARIO = """
name = "small"
[model]
config = "llama-3.1-8b"
[cluster]
node = "dgx-h100"
[serving]
max_num_seqs = 64
[workload]
trace = "azure-conv-2023"
duration_s = 20
[slo]
ttft_s = 0.5
tbt_s = 0.1
"""
AXES = '"serving.max_num_seqs" = [8, 64]\n"workload.rate_scale" = [1.0, 4.0]'
GOAL = 'maximize = "output_tokens_per_s_per_gpu"\nsubject_to = ["ttft_s.p99 <= 500ms"]'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: small.toml, the scenario."""
    (tmp_path / "small.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make_sweep(folder: Path) -> MakeSweep:
    """Write sweep.toml with these axes and keys, and load it."""

    def write(
        axes: str = AXES, keys: str = "seeds = [1, 2]", goal: str = GOAL, overrides: tuple[str, ...] = ()
    ) -> Sweep:
        text = f'schema = 1\nscenario = "small.toml"\n{keys}\n[axes]\n{axes}\n[goal]\n{goal}\n'
        (folder / "s.toml").write_text(text)
        return load_sweep("s.toml", overrides)

    return write
