"""Work that no batching can avoid never exceeds what engines did; a proof never refuses what a simulation serves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plan.bounds import replicas_needed
from sim.plan.judge import TO_THE_END, judge
from sim.plan.request_work import RequestWork
from sim.plan.step_floor import StageFloor, StepLimits
from sim.plan.token_prices import token_prices
from sim.plan.words import verdict_words
from sim.run import run
from sim.scenario import Scenario
from sim.serving.deployment import deploy
from sim.serving.simulate import simulate_serving
from sim.workload import load_requests
from workloads.request import RequestTable

MODELS = ("llama-3.1-8b", "mistral-7b", "mixtral-8x7b")
NODES = ("dgx-h100", "dgx-a100-80gb", "l40s-8x")


@st.composite
def scenarios(draw):
    scheduler = draw(st.sampled_from(["chunked_prefill", "prefill_first", "sarathi", "orca", "static"]))
    seats = draw(st.sampled_from([1, 4, 24, 64]))
    stages = draw(st.sampled_from([1, 1, 2])) if seats > 1 else 1
    serving = {
        "tensor_parallel_size": 4,
        "pipeline_parallel_size": stages,
        "max_num_seqs": seats,
        "max_num_batched_tokens": draw(st.sampled_from([64, 512, 3000])),
        "max_model_len": 6000,
        "num_gpu_blocks_override": draw(st.sampled_from([400, 700, 20_000])),
        "scheduler": {"name": scheduler},
        "replicas": draw(st.sampled_from([1, 1, 2])) if stages == 1 else 1,
    }
    lengths = st.sampled_from([1, 7, 130, {"name": "lognormal", "p50": 200, "p99": 2500}])
    uneven = {"name": "profile", "t_s": [0.0, 3.0, 6.0], "request_rate": [90.0, 1.0, 0.5], "period_s": 300.0}
    rates = [{"name": "poisson", "request_rate": rate} for rate in (0.5, 8.0, 80.0)]
    generator = {
        "name": "synthetic",
        "arrivals": draw(st.sampled_from([*rates, uneven])),
        "prompt_tokens": draw(lengths),
        "output_tokens": draw(lengths),
    }
    slo = draw(
        st.sampled_from(
            [
                {"ttft_s": 0.4},
                {"ttft_s": 0.5, "tbt_s": 0.05},
                {"e2e_s": 4.0, "percentile": 90.0},
                {"ttft_s": 2.0, "tpot_s": 0.03, "percentile": 95.0},
                {"tbt_s": 0.05},
                {},
            ]
        )
    )
    return Scenario.model_validate(
        {
            "seed": draw(st.integers(0, 1000)),
            "model": {"config": draw(st.sampled_from(MODELS))},
            "cluster": {"node": draw(st.sampled_from(NODES))},
            "serving": serving,
            "workload": {"generator": generator, "num_requests": draw(st.sampled_from([1, 30, 150]))},
            "slo": slo,
        }
    )


@settings(max_examples=60, deadline=None)
@given(scenarios())
def test_no_engine_is_busy_for_less_than_the_least_work_of_what_it_served(scenario):
    requests = load_requests(scenario.workload, scenario.seed)
    result = run(scenario, requests=requests)
    served = np.isfinite(result.request_columns["e2e_s"])
    work = RequestWork(scenario, requests)
    assert np.all(work.held | ~served)  # what it takes for too long was turned away
    busy = [float(one.busy_s.sum()) for one in result.attributions]
    for least in (work.request_s(), work.prompt_s()):
        assert np.all(least[:, served].sum(axis=1) <= np.array(busy) * (1 + 1e-9))


@settings(max_examples=60, deadline=None)
@given(scenarios())
def test_a_proof_never_refuses_what_a_simulation_serves_within_its_slo(scenario):
    requests = load_requests(scenario.workload, scenario.seed)
    needed = replicas_needed(RequestWork(scenario, requests), scenario.slo)
    if judge(scenario, requests, stop_at=TO_THE_END).met:
        assert math.isfinite(needed.replicas)
        assert needed.count <= scenario.serving.replicas


def test_work_that_comes_all_at_first_is_too_much_for_proof_and_simulation_alike():
    """The queue of the later parts shrinks, but at the last arrival some of the first is still waiting."""
    scenario = Scenario.model_validate({**SATURATED, "slo": {"tbt_s": 0.5}})
    arrival = np.concatenate([np.linspace(0.0, 1.0, 1900), np.linspace(1.0, 12.0, 100)])
    table = RequestTable.build(
        source="t", arrival_s=arrival, prompt_tokens=np.full(2000, 600), output_tokens=np.full(2000, 100)
    )
    verdict = judge(scenario, table, stop_at=TO_THE_END)
    assert not verdict.growth.unstable
    assert verdict.limits[0].ratio < 1.0
    assert not verdict.met
    assert "the least work that arrives takes" in verdict_words(verdict, 99.0)
    assert replicas_needed(RequestWork(scenario, table), scenario.slo).count > 1


def test_two_requests_that_an_idle_engine_serves_are_not_too_much_work():
    scenario = Scenario.model_validate(SATURATED)
    table = RequestTable.build(source="t", arrival_s=[0.0, 0.03], prompt_tokens=[600, 600], output_tokens=[10, 100])
    assert RequestWork(scenario, table).load() < 1.0 < RequestWork(scenario, table).request_s().sum() / 0.03
    assert not judge(scenario, table).load.too_much


@settings(max_examples=30, deadline=None)
@given(scenarios())
def test_no_request_is_faster_than_alone_on_an_idle_engine(scenario):
    requests = load_requests(scenario.workload, scenario.seed)
    columns = run(scenario, requests=requests).request_columns
    ttft, gap = RequestWork(scenario, requests).alone_s()
    served = np.isfinite(columns["e2e_s"])
    assert np.all(columns["ttft_s"][served] >= ttft[served] * (1 - 1e-9) - 1e-9)
    gaps = columns["max_tbt_s"][served]
    assert np.all((gaps >= gap * (1 - 1e-9) - 1e-9) | np.isnan(gaps))


def test_recomputed_sequences_are_in_the_draws_above():
    """A pool of blocks as small as theirs does put sequences off."""
    scenario = Scenario.model_validate(
        {
            "model": {"config": "llama-3.1-8b"},
            "cluster": {"node": "dgx-h100"},
            "serving": {"num_gpu_blocks_override": 400, "max_num_seqs": 64, "scheduler": {"name": "chunked_prefill"}},
            "workload": {
                "generator": {
                    "name": "synthetic",
                    "arrivals": {"name": "poisson", "request_rate": 80.0},
                    "prompt_tokens": 130,
                    "output_tokens": {"name": "lognormal", "p50": 200, "p99": 2500},
                },
                "num_requests": 150,
            },
        }
    )
    requests = load_requests(scenario.workload, scenario.seed)
    served = simulate_serving(scenario, requests)
    assert sum(served.requests.preemptions) > 0


SATURATED = {
    "model": {"config": "llama-3.1-8b"},
    "cluster": {"node": "dgx-h100"},
    "serving": {"max_num_seqs": 128, "max_num_batched_tokens": 1024},
    "workload": {
        "generator": {
            "name": "synthetic",
            "arrivals": {"name": "constant", "request_rate": 1e4},
            "prompt_tokens": 600,
            "output_tokens": 100,
        },
        "num_requests": 2000,
    },
}


def test_the_least_work_of_a_saturated_engine_is_most_of_what_it_does():
    scenario = Scenario.model_validate(SATURATED)
    requests = load_requests(scenario.workload, scenario.seed)
    busy = run(scenario, requests=requests).attributions[0].busy_s.sum()
    least = RequestWork(scenario, requests).request_s().sum()
    assert 0.85 * busy <= least <= busy


def test_prices_stay_under_every_step():
    deployment = deploy(Scenario.model_validate(SATURATED))
    limits = StepLimits(rows=700, decodes=48, mixes=True, kv_tokens=20_000, longest=900)
    floor = StageFloor(deployment.stages[0], limits, 0.0)
    p, d = np.arange(701)[:, None], np.arange(49)[None, :]
    for work in ((1000.0, 0.0, 0.0), (1000.0, 400.0, 90_000.0), (10.0, 400.0, 90_000.0)):
        prices = token_prices(floor, *work)
        context = prices.per_context_token * limits.kv_tokens * (d > 0)
        paid = prices.per_prompt_token * p + prices.per_decoded_token * d
        real = np.maximum(
            floor.at_least(p, d, launching=False) + floor.per_context * limits.kv_tokens * (d > 0),
            floor.at_least(p, d, launching=True),
        )
        exists = (p + d > 0) & (p + d <= limits.rows)
        assert np.all((paid + context <= real * (1 + 1e-9)) | ~exists)


@pytest.mark.parametrize("launching", [False, True])
def test_a_larger_step_is_never_cheaper_in_the_floor(launching):
    deployment = deploy(Scenario.model_validate(SATURATED))
    floor = StageFloor(deployment.stages[0], StepLimits(600, 64, True, 50_000, 1000), 0.0)
    seconds = floor.at_least(np.arange(537)[:, None], np.arange(65)[None, :], launching=launching)
    assert np.all(np.diff(seconds[1:], axis=0) >= 0)
    assert np.all(np.diff(seconds[:, 1:], axis=1) >= 0)


def test_rows_beyond_the_table_cost_arithmetic_at_peak():
    scenario = Scenario.model_validate(
        SATURATED | {"serving": {"scheduler": {"name": "orca"}, "max_num_seqs": 64, "max_model_len": 9000}}
    )
    table = RequestTable.build(
        source="t", arrival_s=np.zeros(60), prompt_tokens=np.full(60, 4000), output_tokens=np.full(60, 1)
    )
    work = RequestWork(scenario, table)
    busy = run(scenario, requests=table).attributions[0].busy_s.sum()
    assert 0.3 * busy <= work.request_s().sum() <= busy
