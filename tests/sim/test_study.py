"""Studies and the search behind them."""

import math

import pytest

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.plan.capacity import find_capacity, keeps
from sim.scenario import Scenario
from sim.study import load_study, run_study, study_names
from sim.workload import load_requests

CHAT = Scenario.model_validate(
    {
        "seed": 3,
        "model": {"config": "llama-3-8b"},
        "cluster": {"node": "dgx-a100-80gb"},
        "serving": {"max_num_seqs": 64, "max_num_batched_tokens": 512},
        "workload": {
            "num_requests": 200,
            "generator": {
                "name": "synthetic",
                "arrivals": {"name": "poisson", "request_rate": 2.0},
                "prompt_tokens": 500,
                "output_tokens": 100,
            },
        },
    }
)


def test_capacity_lies_between_a_rate_that_keeps_the_limits_and_one_that_breaks_them():
    limits = {"ttft_s.p99": 0.5}
    found = find_capacity(CHAT, limits, tolerance=0.05)
    assert found.rate_per_s < found.broken_at_per_s <= found.rate_per_s * 1.05
    requests = load_requests(CHAT.workload, CHAT.seed)
    own = requests.mean_rate_per_s
    assert keeps(limits, CHAT, requests.scale_rate(found.rate_per_s / own))
    assert not keeps(limits, CHAT, requests.scale_rate(found.broken_at_per_s / own))


def test_a_tighter_limit_never_raises_capacity():
    loose = find_capacity(CHAT, {"ttft_s.p99": 1.0})
    tight = find_capacity(CHAT, {"ttft_s.p99": 0.2})
    assert tight.rate_per_s <= loose.rate_per_s


def test_an_impossible_limit_is_a_sentence():
    with pytest.raises(FleetcastError, match="break a limit"):
        find_capacity(CHAT, {"ttft_s.p50": 1e-6})


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_loads_and_says_where_its_figures_are_from(name):
    study = load_study(name)
    for point in study.point:
        assert point.published is None or (point.source and point.unit), point.name


def test_a_study_yields_a_row_a_point_with_its_band():
    rows = list(run_study("serving/sarathi-iteration-times"))
    assert len(rows) == len(load_study("serving/sarathi-iteration-times").point)
    for row in rows:
        assert row.low <= row.simulated <= row.high
        assert math.isfinite(row.error_fraction)
    ratio = next(row for row in rows if row.point == "257 over 256 tokens")
    assert ratio.low > 1.1  # one row more than two tiles of 128 costs a third tile


def test_unknown_study_names_the_nearest():
    with pytest.raises(UnknownNameError, match="sarathi-serve-capacity"):
        load_study("serving/sarathi-serve-capacty")


def rows_of(name):
    return {row.point: row for row in run_study(name)}


@pytest.mark.slow
def test_published_directions_come_out():
    capacity = rows_of("serving/sarathi-serve-capacity")
    for model in ("mistral-7b", "yi-34b"):
        assert capacity[f"{model}, strict: Sarathi-Serve over vLLM"].simulated > 1.2
        assert capacity[f"{model}, relaxed: Sarathi-Serve over vLLM"].simulated > 1.0
    orca = rows_of("serving/vllm-over-orca")
    assert orca["vLLM over Orca (Max)"].simulated > 1.5
    assert orca["vLLM over Orca (Oracle)"].simulated > 1.0
    assert orca["vLLM over FasterTransformer"].simulated > 1.5
    bubbles = rows_of("serving/sarathi-pipeline-bubbles")
    assert bubbles["bubbles, Orca over SARATHI"].simulated > 1.5
