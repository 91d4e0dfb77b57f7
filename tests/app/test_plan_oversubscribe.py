"""`fleetcast plan --oversubscribe` from the outside: worker processes, report, files, exit codes and mistakes."""

import json

import pytest
from row_plan import FOUND, TRIED

from app.plan_oversubscribe_console import oversubscription_lines
from app.plan_oversubscribe_figures import oversubscription_figures
from app.plan_oversubscribe_report import oversubscription_report
from sim.scenario_file import load_scenario

SCENARIO = """
name = "a <row>"
seed = 3
[model]
config = "llama-3.1-8b"
[cluster]
node = "l40s-1x"
nodes = 2
[serving]
replicas = 2
max_num_seqs = 48
max_num_batched_tokens = 1024
[workload]
duration_s = 12
[workload.generator]
name = "synthetic"
arrivals = { name = "poisson", request_rate = 12.0 }
prompt_tokens = 300
output_tokens = 40
[power]
provisioned_nodes = 2
"""


@pytest.fixture
def row(tmp_path, monkeypatch):
    (tmp_path / "row.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_row_is_planned_by_worker_processes_written_and_its_answer_loads(row, fleetcast, capsys):
    options = ("--seeds", "1", "--confirm", "0", "--workers", "1", "--policies", "polca", "--most-servers", "3")
    allowed = ("--allow", "brakes_per_h=1e6", "--allow", "high_p50=900%", "--allow", "high_p99=900%")
    assert fleetcast("plan", "row.toml", "--oversubscribe", *options, *allowed, "--out", "p") == 0
    out = capsys.readouterr().out
    assert "3 servers or more under brake_only, +50 %" in out
    assert "polca: power.policy 'polca' caps servers of low priority first, and there are none" in out
    assert "no brake; with 95% confidence no more than" in out
    assert sorted(path.name for path in (row / "p").iterdir()) == ["best.toml", "plan.json", "report.html"]
    best = load_scenario(row / "p/best.toml")
    assert (best.cluster.nodes, best.serving.replicas) == (3, 3)
    assert best.workload.generator["arrivals"]["request_rate"] == 18.0
    found = json.loads((row / "p/plan.json").read_text())
    assert found["question"] == "oversubscription"
    assert [one["servers"] for one in found["rows"] if not one["refused"]] == [2, 3]


def test_the_report_says_what_binds_how_sure_it_is_and_every_number_that_was_tried():
    text = "\n".join(oversubscription_lines(FOUND))
    assert "44 servers under polca, +10 %" in text
    assert "next to bind, with 45: rise of low priority's p99 60 %" in text
    assert "no more than 3 brakes an hour" in text
    assert "40.0..60.0 %" in text
    assert "at most power brakes an hour 0" in text
    figures = oversubscription_figures(FOUND)
    assert [len(figure.data) for figure in figures.values()] == [3, 3]  # nothing is drawn over an allowed rise of 0
    low = list(figures.values())[1].data[-1]
    assert list(low.y) == pytest.approx([0.4, 1.0])
    assert list(low.error_y.array) == pytest.approx([0.2, 0.2])
    assert list(low.marker.symbol) == ["circle", "x"]
    page = oversubscription_report(FOUND)
    assert "a &lt;row&gt;" in page
    assert "&lt;no&gt;" in page
    assert page == oversubscription_report(FOUND)
    lower = FOUND | {"servers": 40, "confirmation": [TRIED | {"safe": False, "breaks": ["low_p99"]}]}
    assert "other seeds do not bear out 44 (low_p99)" in "\n".join(oversubscription_lines(lower))
    none = FOUND | {"found": False, "servers": None, "oversubscription": None, "sure": None, "confirmation": []}
    assert "Not even 40 servers are safe" in oversubscription_report(none)
    assert "polca is not safe with 40" in "\n".join(oversubscription_lines(none))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--oversubscribe", "--capacity"), "two questions"),
        (("--oversubscribe", "--tp", "8"), "--tp: has no meaning with --oversubscribe"),
        (("--allow", "high_p99=5%"), "it goes with --oversubscribe"),
        (("--oversubscribe", "--allow", "high=5%"), "did you mean"),
        (("--oversubscribe", "--allow", "high_p99=-1"), "give 0 or more"),
        (("--oversubscribe", "--policies", "polka"), "did you mean 'polca'"),
        (("--oversubscribe", "--built-for", "9", "--most-servers", "8"), "built for 9 servers; give no fewer"),
        (("--oversubscribe", "--seeds", "0"), "--seeds 0"),
        (("--oversubscribe", "--set", "power.provisioned_nodes=1", "--set", "power.row_limit_w=2"), "not both"),
        (("--oversubscribe", "--set", "serving.replicas=3"), "give a multiple"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(row, fleetcast, capsys, options, message):
    assert fleetcast("plan", "row.toml", *options) == 2
    assert message in capsys.readouterr().err
