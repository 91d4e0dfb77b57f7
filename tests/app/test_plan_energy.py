"""`fleetcast plan --energy` from the outside: a frontier, baselines, a scenario of what was chosen, and its page."""

import json

import pytest

from app.clock_figures import clock_pictures
from app.plan_energy_report import energy_figures
from sim.plan.training import energy
from sim.scenario_file import load_any
from sim.training.result import run_training

SCENARIO = """
name = "a <pipeline>"
[model]
config = "gpt3-1.3b"
[cluster]
node = "a100-80gb-pcie-4x"
nodes = 1
[training]
framework = "megatron-lm-2021"
seq_length = 1024
global_batch_size = 16
micro_batch_size = 4
pipeline_parallel_size = 2
data_parallel_size = 1
check_memory = false
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "train.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(energy, "POINTS", 2)
    return tmp_path


def test_clocks_pass_by_pass_beat_all_else_and_the_chosen_scenario_runs_as_planned(here, fleetcast, capsys):
    assert fleetcast("plan", "train.toml", "--energy", "--gpu-usd-per-h", "0", "--out", "p") == 0
    out = capsys.readouterr().out
    found = json.loads((here / "p/plan.json").read_text())
    rows, chosen = found["rows"], found["chosen"]
    assert f"answer: {chosen['by']}" in out
    assert {row["by"] for row in rows} == {"as fast as may be", "perseus", "envpipe", "one clock", "power limit"}
    assert all(not row["on_front"] or row["by"] == "perseus" for row in rows if row["step_s"] <= chosen["step_s"])
    first = next(row for row in rows if row["by"] == "perseus")
    assert first["slowdown_fraction"] == pytest.approx(0.0, abs=1e-6)
    assert first["gpu_saved_fraction"] > 0.02
    ran = run_training(load_any(here / "p/best.toml"))
    assert ran.summary["step_s"] == pytest.approx(chosen["step_s"], rel=1e-6)
    assert ran.summary["energy_j_per_step"] == pytest.approx(chosen["gpu_j"], rel=1e-6)
    assert ran.summary["energy"]["site_j"] == pytest.approx(chosen["site_j"], rel=1e-6)
    for picture in (*energy_figures(found).values(), *clock_pictures(ran.summary["power"]).values()):
        assert len(picture.data)
    assert "a &lt;pipeline&gt;: what a longer step saves" in (here / "p/report.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--energy", "--step-limit", "1", "--gpu-usd-per-h", "0"), "each say what is best"),
        (("--energy", "--step-limit", "inf"), "--step-limit inf: give seconds above 0"),
        (("--energy", "--gpu-usd-per-h", "-1"), "--gpu-usd-per-h -1: give USD an hour, 0 or more"),
        (("--energy", "--tp", "1"), "--tp: has no meaning with --energy"),
        (("--step-limit", "1"), "--step-limit: has no meaning with a scenario of training; it goes with --energy"),
    ],
)
def test_options_that_do_not_go_together_are_refused(here, fleetcast, capsys, options, said):
    assert fleetcast("plan", "train.toml", *options) == 2
    assert said in capsys.readouterr().err
