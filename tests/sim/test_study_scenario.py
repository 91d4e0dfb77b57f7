"""Points of studies opened as scenarios give the point's figure again."""

import pytest

from hardware_models.errors import UnknownNameError
from sim.run import run
from sim.study import load_study, point_of, run_study, study_names
from sim.study_scenario import point_scenario, reads_as


@pytest.mark.parametrize("name", [name for name in study_names() if load_study(name).opens])
def test_every_point_of_every_study_opens_as_a_scenario_that_says_whose_it_is(name):
    study = load_study(name)
    for point in study.point:
        scenario = point_scenario(study, point)
        assert scenario.name.endswith(point.name)
        assert reads_as(point)


def test_an_opened_prompt_draws_the_step_s_watts():
    study, name = load_study("power/splitwise-profile-a100"), "TP2, 1 prompt of 512: peak watts"
    (row,) = run_study("power/splitwise-profile-a100", points=(name,))
    point = point_of(study, name, "study")
    summary = run(point_scenario(study, point)).summary
    assert summary["mean_power_w_per_gpu_used"] == pytest.approx(row.simulated, rel=1e-9)
    assert reads_as(point) == "power of a GPU that serves"


def test_an_opened_prompt_s_ttft_is_the_step_s_time():
    study = load_study("serving/tokenweave-prefill")
    name = "llama-3.3-70b, TP8: prefill of 4096 tokens"
    (row,) = run_study("serving/tokenweave-prefill", points=(name,))
    summary = run(point_scenario(study, point_of(study, name, "study"))).summary
    assert summary["ttft_s"]["p50"] == pytest.approx(row.simulated, rel=0.01)


def test_an_opened_decode_step_s_tbt_is_the_step_s_time():
    study = load_study("serving/sarathi-serve-batch-times")
    name = "decode of 32 sequences"
    (row,) = run_study("serving/sarathi-serve-batch-times", points=(name,))
    summary = run(point_scenario(study, point_of(study, name, "study"))).summary
    assert summary["tpot_s"]["p50"] == pytest.approx(row.simulated, rel=0.05)


def test_an_opened_capacity_runs_at_its_rate_and_its_limits_are_said():
    study = load_study("serving/sarathi-serve-capacity")
    point = point_of(study, "mistral-7b, strict: Sarathi-Serve over vLLM", "study")
    scenario = point_scenario(study, point, {"workload.num_requests": 1024}, rate_per_s=2.0)
    assert scenario.workload.num_requests == 1024
    assert reads_as(point) == "the largest rate with TBT p99 of at most 100 ms and queueing p50 of at most 2,000 ms"
    result = run(scenario)
    arrivals = result.requests["arrival_s"]
    assert (len(arrivals) - 1) / (arrivals.max() - arrivals.min()) == pytest.approx(2.0, rel=0.01)


def test_a_study_can_be_run_for_one_point_with_a_knob_changed():
    name, point = "serving/splitwise-prompts", "H100, TP2: prompt of 2048 tokens"
    (row,) = run_study(name, points=(point,))
    (wide,) = run_study(name, points=(point,), overrides=("serving.tensor_parallel_size=8",))
    (same,) = run_study(name, points=("H100, TP8: prompt of 2048 tokens",))
    assert row.point == wide.point == point
    assert wide.simulated < row.simulated
    assert wide.simulated == same.simulated


def test_the_assumed_values_of_a_row_give_its_figure_alone():
    name, point = "serving/sarathi-iteration-times", "prefill of 1024 tokens"
    (row,) = run_study(name, points=(point,))
    overrides = tuple(f"{key}={value}" for key, value in row.assumed.items())
    (alone,) = run_study(name, points=(point,), overrides=overrides)
    assert overrides
    assert alone.low == alone.high == row.simulated


def test_a_ratio_alone_simulates_its_baseline_without_a_row():
    rows = list(run_study("serving/sarathi-iteration-times", points=("257 over 256 tokens",)))
    assert [row.point for row in rows] == ["257 over 256 tokens"]


def test_an_unknown_point_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"study serving/splitwise-prompts: point: unknown name .*H100, TP2"):
        list(run_study("serving/splitwise-prompts", points=("H100, TP2: prompt of 512 token",)))
