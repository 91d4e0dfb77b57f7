"""The search for a capacity: which requests it simulates, and what it refuses."""

import numpy as np
import pytest

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.plan import capacity
from sim.plan.capacity import find_capacity, requests_at
from sim.run import run
from sim.scenario import Scenario, WorkloadSection

POISSON = {"name": "poisson", "request_rate": 2.0}
GENERATOR = {"name": "synthetic", "arrivals": POISSON, "prompt_tokens": 300, "output_tokens": 60}


def workload(**keys) -> WorkloadSection:
    return WorkloadSection.model_validate({"generator": GENERATOR, **keys})


def scenario(**keys) -> Scenario:
    tables = {
        "model": {"config": "llama-3-8b"},
        "cluster": {"node": "dgx-a100-80gb"},
        "serving": {"max_num_seqs": 32, "max_num_batched_tokens": 512, **keys.pop("serving", {})},
        "workload": {"generator": {**GENERATOR, **keys.pop("generator", {})}, "duration_s": 60.0, **keys},
    }
    return Scenario.model_validate(tables)


def test_every_simulation_of_a_search_lasts_the_workload_s_duration(monkeypatch):
    seen = []

    def recorded(scenario, *, requests):
        seen.append(requests)
        return run(scenario, requests=requests)

    monkeypatch.setattr(capacity, "run", recorded)
    find_capacity(scenario(), {"ttft_s.p99": 0.3}, tolerance=0.1)
    rates = np.array([table.mean_rate_per_s for table in seen])
    assert rates.max() > 4 * rates.min()
    assert [len(table) for table in seen] == pytest.approx(60.0 * rates, abs=1)
    assert [table.duration_s for table in seen] == pytest.approx([60.0] * len(seen), rel=0.05)


@pytest.mark.parametrize("rate", [0.5, 2.0, 31.0])
def test_a_count_beside_the_duration_caps_it(rate):
    table = requests_at(workload(duration_s=100.0, num_requests=300), 1, rate)
    assert len(table) == min(300, 100 * rate)
    assert table.mean_rate_per_s == pytest.approx(rate)


def test_a_count_alone_stays_at_every_rate():
    for rate in (0.5, 8.0):
        table = requests_at(workload(num_requests=300), 1, rate)
        assert len(table) == 300
        assert table.mean_rate_per_s == pytest.approx(rate)


def test_the_draws_for_a_lower_rate_are_the_first_of_those_for_a_higher_one():
    lengths = {"name": "lognormal", "p50": 200, "p99": 1500}
    drawn = {**GENERATOR, "prompt_tokens": lengths, "output_tokens": lengths, "rank_correlation": 0.4}
    low, high = (requests_at(workload(generator=drawn, duration_s=200.0), 1, rate) for rate in (1.0, 3.0))
    assert len(high) == 3 * len(low)
    assert np.array_equal(high.prompt_tokens[: len(low)], low.prompt_tokens)
    assert np.array_equal(high.output_tokens[: len(low)], low.output_tokens)
    assert np.ptp(low.arrival_s / high.arrival_s[: len(low)]) < 1e-9


def test_a_catalog_trace_is_drawn_anew_and_lasts_as_long():
    trace = WorkloadSection(trace="azure-conv-2023", duration_s=600.0)
    slow, fast = requests_at(trace, 1, 2.0), requests_at(trace, 1, 20.0)
    assert slow.duration_s == pytest.approx(600.0, rel=0.02)
    assert fast.duration_s == pytest.approx(600.0, rel=0.02)
    assert len(fast) == pytest.approx(10 * len(slow), rel=0.2)


@pytest.mark.parametrize("trace", ["azure-code-2023", "servegen-deepseek-r1"])
@pytest.mark.parametrize("rate", [2.0, 40.0])
def test_a_bursty_catalog_trace_comes_at_the_rate_asked_for(trace, rate):
    for seed in range(4):
        table = requests_at(WorkloadSection(trace=trace, duration_s=600.0), seed, rate)
        assert table.mean_rate_per_s == pytest.approx(rate)
        assert 400.0 < table.duration_s < 610.0


def test_a_trace_file_is_squeezed_whole(tmp_path):
    rows = "\n".join(f"{t},100,20" for t in range(50))
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    table = requests_at(WorkloadSection(trace=str(tmp_path / "t.csv")), 1, 10.0)
    assert len(table) == 50
    assert table.mean_rate_per_s == pytest.approx(10.0)


def test_a_misspelt_metric_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"did you mean 'ttft_s\.p99'"):
        find_capacity(scenario(), {"ttft_s.p999": 1.0})


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        ("output_throughput", "more of it is better"),
        ("steps", "neither more nor less"),
        ("usd_per_million_output_tokens", "falls as the rate rises"),
    ],
)
def test_a_limit_that_no_search_could_use_is_refused(metric, why):
    with pytest.raises(FleetcastError, match=f"'{metric}' = 100.*{why}"):
        find_capacity(scenario(), {metric: 100.0})


def test_no_limit_is_refused():
    with pytest.raises(FleetcastError, match="no limits given"):
        find_capacity(scenario(), {})


def test_a_metric_without_a_value_is_no_broken_limit():
    with pytest.raises(FleetcastError, match=r"no 'tbt_s\.p99'"):
        find_capacity(scenario(generator={"output_tokens": 1}), {"tbt_s.p99": 1.0})


def test_requests_that_no_rate_would_save_are_named():
    with pytest.raises(FleetcastError, match=r"(\d+) of \1 requests are longer than serving\.max_model_len"):
        find_capacity(scenario(serving={"max_model_len": 100}), {"ttft_s.p99": 1.0})


def test_an_impossible_limit_gives_up_at_a_thousandth_of_the_workload_s_rate():
    steady = {"arrivals": {"name": "constant", "request_rate": 2.0}}
    with pytest.raises(FleetcastError, match=r"even 0\.00195 requests/s break"):  # 2 / 1024
        find_capacity(scenario(generator=steady, duration_s=None, num_requests=20), {"ttft_s.p50": 1e-6})
