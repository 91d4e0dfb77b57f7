"""`fleetcast plan` for a scenario of training from the outside: report, files, exit codes and mistakes."""

import json

import pandas as pd
import pytest

from sim.scenario_file import load_any

SCENARIO = """
name = "small training"
[model]
config = "gpt3-1.3b"
[cluster]
node = "dgx-a100-80gb"
nodes = 1
[training]
seq_length = 2048
global_batch_size = 32
"""
SPACE = ("--tp", "1,2", "--pp", "1,2", "--micro-batches", "1,2")


@pytest.fixture
def small(tmp_path, monkeypatch):
    (tmp_path / "small.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plan_is_found_written_and_runs(small, command):
    code, out, _ = command("plan", "small.toml", *SPACE, "--out", "p")
    assert code == 0
    for words in ("the fastest plan", "answer", "why the others lose", "flags of Megatron-LM", "MFU", "front"):
        assert words in out
    assert sorted(one.name for one in (small / "p").iterdir()) == [
        "best.toml", "plan.json", "plans.parquet", "report.html",
    ]  # fmt: skip
    found = json.loads((small / "p/plan.json").read_text())
    code, out, _ = command("run", "p/best.toml", "--json")
    assert code == 0
    assert json.loads(out)["step_s"] == pytest.approx(found["best"][0]["step_s"], rel=1e-12)
    rows = pd.read_parquet(small / "p/plans.parquet")
    assert len(rows) == found["space"]["plans"]
    assert (rows["step_s"] > 0).all()
    simulated = rows[(rows["known_by"] == "simulated") & rows["fits"]]
    assert simulated["step_s"].min() == pytest.approx(found["best"][0]["step_s"])
    page = (small / "p/report.html").read_text()
    assert "Why the others lose" in page
    assert "figure-1" in page


def test_json_is_all_there_is_on_standard_output(small, command):
    code, out, _ = command("plan", "small.toml", *SPACE, "--json", "--top", "3")
    assert code == 0
    found = json.loads(out)
    assert found["question"] == "training"
    assert [row["step_s"] for row in found["best"]] == sorted(row["step_s"] for row in found["best"])
    assert len(found["best"]) == 3
    assert sum(row["plans"] for row in found["losers"]) == found["space"]["plans"] - 3
    assert "--tensor-model-parallel-size" in found["megatron_flags"][0]


def test_a_search_of_every_plan_has_the_same_winner(small, command):
    space = ("--tp", "2", "--pp", "1,2", "--micro-batches", "1", "--json")
    few, every = (json.loads(command("plan", "small.toml", *space, *more)[1]) for more in ((), ("--exhaustive",)))
    assert every["best"][:10] == few["best"]
    assert every["space"]["simulated"] > few["space"]["simulated"]


def test_a_plan_as_written_is_compared_and_its_keys_are_fixed_until_freed(small, command):
    own = ("--set", "training.tensor_parallel_size=8", "--set", "training.pipeline_parallel_size=1")
    code, out, _ = command("plan", "small.toml", *own, "--set", "training.recompute=full", "--json")
    assert code == 0
    found = json.loads(out)
    assert {row["tensor_parallel_size"] for row in found["best"]} == {8}
    assert found["space"]["fixed"] == ["tensor_parallel_size", "pipeline_parallel_size", "recompute"]
    assert any("fixed by the scenario" in note for note in found["notes"])
    code, out, _ = command("plan", "small.toml", *own, "--free", "all", *SPACE)
    assert code == 0
    assert "the scenario's own plan" in out


def test_what_cannot_be_is_one_sentence_and_exit_code_2(small, command):
    for arguments, words in (
        (("--set", "model.config=gpt3-175b"), "plans fits: the nearest"),
        (("--gpus", "12"), "--gpus 12"),
        (("--free", "schedules"), "did you mean 'schedule'"),
        (("--capacity",), "--capacity: has no meaning with a scenario of training"),
        (("--rate", "3"), "--rate: has no meaning with a scenario of training"),
        (("--schedules", "1f2b"), "--schedules: unknown name '1f2b'"),
        (("--tp", "3"), "no plan divides the cluster"),
    ):
        code, out, err = command("plan", "small.toml", *arguments)
        assert code == 2, arguments
        assert out == ""
        assert words in err
        assert err.count("\n") == 1


def test_options_of_training_are_refused_for_a_scenario_of_serving(small, command):
    (small / "chat.toml").write_text(
        'name = "chat"\n[model]\nconfig = "llama-3.1-8b"\n[cluster]\nnode = "dgx-h100"\n'
        '[workload]\nduration_s = 1\n[workload.generator]\nname = "synthetic"\n'
        'arrivals = { name = "poisson", request_rate = 1.0 }\nprompt_tokens = 10\noutput_tokens = 2\n'
    )
    code, _, err = command("plan", "chat.toml", "--gpus", "8")
    assert code == 2
    assert "--gpus: has no meaning without --capacity and --day" in err


def test_idle_gpus_are_written_down_so_that_the_best_plan_loads(small, command):
    code, _, _ = command(
        "plan", "small.toml", "--set", "cluster.nodes=3", "--tp", "1", "--pp", "1", "--micro-batches", "1", "--out", "p"
    )
    assert code == 0
    best = load_any("p/best.toml")
    assert best.training.data_parallel_size == 16
    assert json.loads((small / "p/plan.json").read_text())["best"][0]["used_gpus"] == 16
