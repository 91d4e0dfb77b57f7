"""`fleetcast run` on a training scenario: report, files, and a sentence for everything that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Fleetcast = Callable[..., int]
SCENARIO = """
name = "small training"
[model]
config = "gpt3-1.3b"
[cluster]
node = "dgx-a100-80gb"
nodes = 2
[training]
seq_length = 2048
global_batch_size = 64
tensor_parallel_size = 2
pipeline_parallel_size = 4
recompute = "selective"
"""
SETTINGS = [  # override, what the sentence must name
    ("training.tensor_parallel=2", "did you mean 'training.tensor_parallel_size'?"),
    ("tensor_parallel_size=2", "did you mean 'training.tensor_parallel_size'?"),
    ("training.schedule=1fb1", "did you mean '1f1b'?"),
    ("training.sharding=zero4", "training.sharding.name: unknown name 'zero4'; did you mean 'zero"),
    ("training.recompute=fully", "training.recompute.name: unknown name 'fully'; did you mean 'full'?"),
    ('training.schedule={name="interleaved_1f1b", chunk=2}', "did you mean 'chunks'?"),
    ("training.framework=megatron-core-0.9", "did you mean 'megatron-core-0.8'?"),
    ("training.pipeline_parallel_size=32", "need 64 GPUs; cluster.nodes = 2 has 16"),
    ("training.pipeline_parallel_size=5", "does not divide the cluster's 16 GPUs"),
    ("training.global_batch_size=63", "is not divisible by micro_batch_size = 1 x 2 data-parallel ranks"),
    ("training.tensor_parallel_size=0", "training.tensor_parallel_size = 0: give at least 1"),
    ("training.seq_length=many", "training.seq_length = 'many': give a whole number"),
    ("training.layers_per_stage=[6, 6, 6]", "3 stages of 18 layers; give 4 numbers that sum to 24"),
    ("training.slow_gpus=[{stage=9, slowdown=2}]", "stage 9 of replica 0 is none of 4 stages"),
    ("model.config=gpt3-175b", "tensors of a GPU may take"),
    ("cluster.node=dgx-a100-80g", "did you mean"),
    ("training.jitter_fraction=2", "training.jitter_fraction = 2: give at most 1"),
]


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.toml"
    path.write_text(SCENARIO)
    return path


def test_the_report_says_what_was_asked_the_answer_and_the_reason(
    scenario: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleetcast("run", "train.toml") == 0
    said = capsys.readouterr().out
    for words in ("TP2 PP4 DP2", "MFU", "90 % interval", "fits", "of the step goes to", "grade:"):
        assert words in said


@pytest.mark.parametrize(("override", "said"), SETTINGS)
def test_what_cannot_be_is_one_sentence_on_standard_error(
    scenario: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    assert fleetcast("run", "train.toml", "--set", override, "--out", "out") == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not Path("out").exists()


def test_a_run_folder_holds_frames_and_can_be_run_again(
    scenario: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleetcast("run", "train.toml", "--out", "out", "--trace-out", "step.json.gz") == 0
    summary = json.loads(Path("out/summary.json").read_text())
    tasks, memory = pd.read_parquet("out/tasks.parquet"), pd.read_parquet("out/memory.parquet")
    assert tasks["end_s"].max() == pytest.approx(summary["step_s"])
    peak = memory.pivot_table(index="t_s", columns=["device", "owner"], values="used_bytes", aggfunc="last")
    used = peak.ffill().fillna(0.0).T.groupby(level="device").sum().T
    assert used.to_numpy().max() == pytest.approx(summary["memory"]["peak_bytes"])
    assert Path("step.json.gz").stat().st_size > 1000
    capsys.readouterr()
    assert fleetcast("run", "out/scenario.toml", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again == summary


def test_the_shape_of_a_serving_benchmark_is_refused(
    scenario: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleetcast("run", "train.toml", "--vllm-json", "x.json") == 2
    assert "is for serving" in capsys.readouterr().err
