"""What a study file may get wrong is said when it is loaded, or names the point at fault."""

from pathlib import Path

import pytest

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.metrics import SERVING_SUMMARY_METRICS
from sim.run import run
from sim.scenario import Scenario
from sim.study import load_study, run_study
from workloads.request import RequestTable

SCENARIO = """
title = "a study"
paper = "none"
[scenario.model]
config = "llama-3-8b"
[scenario.cluster]
node = "dgx-a100-80gb"
[scenario.workload]
num_requests = 5
[scenario.workload.generator]
name = "synthetic"
arrivals = { name = "poisson", request_rate = 1.0 }
prompt_tokens = 50
output_tokens = 1
"""


def study(folder: Path, *points: str) -> str:
    """The path of a study file with these points; each is named a, b, ... unless it names itself."""
    named = [text if "name =" in text else f'name = "{chr(97 + i)}"\n{text}' for i, text in enumerate(points)]
    (folder / "s.toml").write_text(SCENARIO + "".join(f"[[point]]\n{text}\n" for text in named))
    return str(folder / "s.toml")


def test_an_unknown_metric_is_refused_at_load(tmp_path):
    with pytest.raises(UnknownNameError, match=r"point 'b': metric: unknown name 'ttft_s\.p98'; did you mean"):
        load_study(study(tmp_path, 'metric = "duration_s"', 'metric = "ttft_s.p98"'))


def test_an_unknown_limit_is_refused_at_load(tmp_path):
    with pytest.raises(UnknownNameError, match=r"point 'a': limits: unknown name 'tbt\.p99'"):
        load_study(study(tmp_path, 'metric = "capacity_per_s"\nlimits = { "tbt.p99" = 0.1 }'))


def test_a_capacity_without_limits_is_refused_at_load(tmp_path):
    with pytest.raises(FleetcastError, match="point 'a': no limits given"):
        load_study(study(tmp_path, 'metric = "capacity_per_s"'))


def test_a_limit_on_a_metric_of_which_more_is_better_is_refused_at_load(tmp_path):
    with pytest.raises(FleetcastError, match=r"point 'a': limits: 'mfu' = 0.3 .* more of it is better"):
        load_study(study(tmp_path, 'metric = "capacity_per_s"\nlimits = { "mfu" = 0.3 }'))


@pytest.mark.parametrize(
    "point", ['metric = "duration_s"\npayload_bytes = 1.0', 'metric = "gradient_exchange_bytes_per_s"']
)
def test_a_payload_goes_with_its_metric(tmp_path, point):
    with pytest.raises(FleetcastError, match="point 'a': 'payload_bytes' goes with"):
        load_study(study(tmp_path, point))


def test_a_step_without_its_composition_is_refused_at_load(tmp_path):
    with pytest.raises(FleetcastError, match="point 'a': metric step_s needs a 'step' table"):
        load_study(study(tmp_path, 'metric = "step_s"'))


@pytest.mark.parametrize("baseline", ["a", "b"])
def test_a_baseline_that_does_not_come_before_is_refused_at_load(tmp_path, baseline):
    point = f'metric = "duration_s"\nbaseline = "{baseline}"'
    with pytest.raises(FleetcastError, match=f"point 'a': baseline '{baseline}' must come before it"):
        load_study(study(tmp_path, point, 'metric = "duration_s"'))


def test_an_unknown_baseline_is_refused_at_load(tmp_path):
    with pytest.raises(UnknownNameError, match="point 'b': baseline: unknown name 'z'"):
        load_study(study(tmp_path, 'metric = "duration_s"', 'metric = "duration_s"\nbaseline = "z"'))


def test_a_name_given_twice_is_refused_at_load(tmp_path):
    with pytest.raises(FleetcastError, match="point 'x': the name is given twice"):
        load_study(study(tmp_path, *['name = "x"\nmetric = "duration_s"'] * 2))


@pytest.mark.parametrize("published", ["0", "[0.0, 2.0]", "-1.0"])
def test_a_published_figure_that_no_error_is_a_share_of_is_refused_at_load(tmp_path, published):
    with pytest.raises(FleetcastError, match=r"point 'a': published = .* above 0"):
        load_study(study(tmp_path, f'metric = "duration_s"\npublished = {published}'))


def test_a_metric_without_a_value_names_the_point(tmp_path):
    rows = run_study(study(tmp_path, 'metric = "duration_s"', 'metric = "tbt_s.mean"'))
    assert next(rows).simulated > 0
    with pytest.raises(FleetcastError, match=r"point 'b': the run has no 'tbt_s\.mean'"):
        next(rows)


def test_a_capacity_that_cannot_be_found_names_the_point(tmp_path):
    with pytest.raises(FleetcastError, match=r"point 'a': capacity: even .* break a limit"):
        list(run_study(study(tmp_path, 'metric = "capacity_per_s"\nlimits = { "ttft_s.p50" = 1e-6 }')))


def test_a_ratio_to_nothing_names_the_point(tmp_path):
    with pytest.raises(FleetcastError, match="point 'b': its baseline 'a' came out as 0"):
        list(run_study(study(tmp_path, 'metric = "preemptions"', 'metric = "duration_s"\nbaseline = "a"')))


def test_a_figure_that_was_asked_for_before_is_not_simulated_again(tmp_path, monkeypatch):
    import sim.study_metrics

    runs = []

    def counted(scenario):
        runs.append(scenario)
        return run(scenario)

    monkeypatch.setattr(sim.study_metrics, "run", counted)
    rows = list(run_study(study(tmp_path, 'metric = "duration_s"', 'metric = "duration_s"\nbaseline = "a"')))
    assert [row.simulated for row in rows] == [rows[0].simulated, 1.0]
    assert len(runs) == 1


def test_a_study_may_ask_for_whatever_a_summary_holds(tmp_path):
    tables = load_study(study(tmp_path, 'metric = "duration_s"')).scenario
    beside = tmp_path / "beside.toml"
    beside.write_text(
        '[model]\nconfig = "gpt3-1.3b"\n[cluster]\nnode = "dgx-h100"\n[training]\nglobal_batch_size = 8\n'
    )
    rows = (
        {
            "power": {"row_limit_w": 1e6, "training": {"scenario": str(beside)}},
            "serving": {"low_priority_replicas": 1, "enable_prefix_caching": True},
        },
        {"power": {"scaler": {"name": "energy_per_load"}}, "slo": {"ttft_s": 1.0}},
    )
    two = RequestTable.build(
        source="two", arrival_s=[0.0, 1.0], prompt_tokens=[9, 9], output_tokens=[99, 99], priority=[0, 1]
    )
    summaries = []
    for row in rows:
        asked = {**tables, **row, "serving": {"replicas": 2, **row.get("serving", {})}, "workload": {"trace": "none"}}
        summaries.append(run(Scenario.model_validate(asked), requests=two).summary)
    for key in SERVING_SUMMARY_METRICS:
        held = [node for summary in summaries if (node := at(summary, key.split("."))) is not ABSENT]
        assert held, key
        assert all(node is None or isinstance(node, int | float) for node in held), key


ABSENT = object()


def at(node, parts):
    for part in parts:
        if not isinstance(node, dict) or part not in node:
            return ABSENT
        node = node[part]
    return node
