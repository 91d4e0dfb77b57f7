"""`fleetcast plan` from the outside: reports, files, exit codes and what is said of mistakes."""

import json
import tomllib

import pytest

from app.plan_progress import Line, search_line
from sim.scenario_file import load_scenario

SCENARIO = """
name = "chat"
seed = 3
[model]
config = "llama-3.1-8b"
[cluster]
node = "l40s-1x"
[serving]
max_num_seqs = 48
max_num_batched_tokens = 1024
[workload]
duration_s = 20
[workload.generator]
name = "synthetic"
arrivals = { name = "poisson", request_rate = 12.0 }
prompt_tokens = 300
output_tokens = 40
[slo]
ttft_s = 0.5
tbt_s = 0.15
"""
SPACE = ("--nodes", "l40s-1x,a10-1x", "--pp", "1")


@pytest.fixture
def chat(tmp_path, monkeypatch):
    (tmp_path / "chat.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_deployment_is_found_written_and_runs(chat, fleetcast, capsys):
    assert fleetcast("plan", "chat.toml", *SPACE, "--out", "p") == 0
    out = capsys.readouterr().out
    assert "answer" in out
    assert "USD/h" in out
    assert "best of" in out
    assert sorted(path.name for path in (chat / "p").iterdir()) == ["best.toml", "plan.json", "report.html"]
    found = json.loads((chat / "p/plan.json").read_text())
    assert found["candidates"][0]["status"] == "winner"
    page = (chat / "p/report.html").read_text()
    assert "Every candidate" in page
    assert "figure-1" in page
    assert fleetcast("run", "p/best.toml", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["slo"]["met"]
    assert summary["slo"]["ttft_s"]["reached"] == found["candidates"][0]["limits"]["ttft_s"]["reached"]


def test_json_is_all_there_is_on_standard_output(chat, fleetcast, capsys):
    assert fleetcast("plan", "chat.toml", *SPACE, "--minimize", "energy", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unit"] == "W"
    assert found["scenario"]["cluster"]["node"] in ("l40s-1x", "a10-1x")


def test_nothing_that_keeps_the_slo_is_exit_code_one_with_the_nearest_miss(chat, fleetcast, capsys):
    assert fleetcast("plan", "chat.toml", *SPACE, "--set", "slo.tbt_s=0.04", "--max-gpus", "4", "--out", "p") == 1
    out = capsys.readouterr().out
    assert "no answer" in out
    assert "nearest: " in out
    assert "what would help: " in out
    assert "best.toml" not in [path.name for path in (chat / "p").iterdir()]


def test_what_is_proved_impossible_is_said_without_a_simulation(chat, fleetcast, capsys):
    assert fleetcast("plan", "chat.toml", *SPACE, "--set", "slo.tbt_s=0.001") == 1
    out = capsys.readouterr().out
    assert "no candidate was worth a simulation: 2 are proved too slow" in out
    assert "even an idle replica takes" in out


def test_a_capacity_is_found_and_written(chat, fleetcast, capsys):
    assert fleetcast("plan", "chat.toml", "--capacity", "--seeds", "3", "--out", "p") == 0
    out = capsys.readouterr().out
    assert "95% interval over 3 seeds" in out
    assert "error bars: between" in out
    assert "proved from the prices of steps" in out
    rate = json.loads((chat / "p/plan.json").read_text())["rate_per_s"]
    best = load_scenario(chat / "p/best.toml")
    assert best.workload.rate_scale == pytest.approx(rate / 12.0, rel=0.2)
    assert fleetcast("plan", "chat.toml", "--capacity", "--set", "slo.ttft_s=0.0001") == 1
    assert "no answer" in capsys.readouterr().out


def test_a_day_s_fleet_is_found_and_its_pools_load(chat, fleetcast, capsys):
    (chat / "demand.csv").write_text("hour,request_rate\n0,10\n1,40\n2,10\n")
    options = ("--day", "--demand", "demand.csv", "--reserved", "0.6", "--limit", "a10-1x=2", "--out", "p")
    assert fleetcast("plan", "chat.toml", *SPACE, *options) == 0
    out = capsys.readouterr().out
    assert "USD over 3 hours" in out
    assert "best fleet that runs all hours" in out
    assert "not simulated" in out
    assert "verified by 600 s of their requests" in out
    pools = sorted((chat / "p/pools").iterdir())
    assert pools
    for pool in pools:
        load_scenario(pool)
    assert "Hours, as simulated" in (chat / "p/report.html").read_text()
    assert fleetcast("plan", "chat.toml", *SPACE, *options) == 0  # over an earlier plan


def test_a_deployment_s_scenario_keeps_relative_paths(chat, fleetcast):
    (chat / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(f"{t},100,9" for t in range(40)))
    text = SCENARIO.split("[workload]", maxsplit=1)[0] + '[workload]\ntrace = "t.csv"\n[slo]\nttft_s = 2.0\n'
    (chat / "file.toml").write_text(text)
    assert fleetcast("plan", "file.toml", "--nodes", "l40s-1x", "--pp", "1", "--out", "deep/p") == 0
    assert tomllib.loads((chat / "deep/p/best.toml").read_text())["workload"]["trace"] == "../../t.csv"
    assert fleetcast("run", "deep/p/best.toml", "--json") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--capacity", "--day"), "two questions"),
        (("--capacity", "--tp", "8"), "--tp: has no meaning with --capacity; it goes with --day or without"),
        (("--day", "--minimize", "gpus"), "--minimize: has no meaning with --day; it goes without --capacity and"),
        (("--day", "--exhaustive"), "--exhaustive: has no meaning with --day"),
        (("--seeds", "3"), "--seeds: has no meaning without --capacity and --day; it goes with --capacity"),
        (("--limit", "l40s-1x=3"), "--limit: has no meaning without"),
        (("--tp", "1,x"), "--tp 1,x: is no list of whole numbers"),
        (("--nodes", "l40s-1x,"), "has an empty name"),
        (("--nodes", "l40s"), "did you mean"),
        (("--rate", "0"), "--rate 0"),
        (("--day", "--limit", "l40s-1x"), "write it as node=count"),
        (("--day", "--reserved", "3"), "--reserved 3"),
        (("--day", "--demand", "none.csv"), "none.csv: cannot be read"),
        (("--prices", "none.toml"), "none.toml: cannot be read"),
        (("--region", "mars"), "unknown name 'mars'"),
        (("--capacity", "--confidence", "2"), "confidence = 2"),
        (("--capacity", "--seeds", "0"), "seeds"),
        (("--out", "chat.toml"), "--out chat.toml"),
        (("--max-gpus", "0"), "--max-gpus 0"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_two(chat, fleetcast, capsys, options, message):
    assert fleetcast("plan", "chat.toml", *options) == 2
    streams = capsys.readouterr()
    assert message in streams.err
    assert streams.err.count("\n") == 1
    assert not streams.out


def test_an_interrupt_leaves_nothing_behind(chat, fleetcast, capsys, monkeypatch):
    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.plan.deployments.judge", stop)
    assert fleetcast("plan", "chat.toml", *SPACE, "--out", "p") == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert [path.name for path in chat.iterdir()] == ["chat.toml"]


def test_a_folder_with_other_things_in_it_is_refused_before_the_search(chat, fleetcast, capsys, monkeypatch):
    (chat / "p").mkdir()
    (chat / "p/thesis.tex").write_text("mine")
    monkeypatch.setattr("sim.plan.deployments.judge", None)
    assert fleetcast("plan", "chat.toml", *SPACE, "--out", "p") == 2
    assert "holds 'thesis.tex'" in capsys.readouterr().err


def test_progress_says_how_far_the_search_is():
    assert search_line(5, 20, 7, "l40s-1x, 2 nodes", 10.0) == (
        "5 of 20 candidates decided, 7 simulations, at most about 30 s left; now l40s-1x, 2 nodes"
    )
    assert "left" not in search_line(0, 20, 0, "l40s-1x", 1.0)


def test_without_a_terminal_lines_of_progress_are_few(capsys, monkeypatch):
    clock = iter([0.0, 5.0, 6.0, 15.0, 16.0])
    monkeypatch.setattr("app.plan_progress.time.monotonic", lambda: next(clock))
    line = Line()
    for number in range(4):
        line.say(f"line {number}")
    line.clear()
    assert capsys.readouterr().err == "line 2\n"
