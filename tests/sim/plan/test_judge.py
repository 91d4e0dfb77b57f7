"""Judging a run: how many requests may miss, ending early without ever being wrong, and queues that grow."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plan.judge import TO_THE_END, judge, may_miss
from sim.plan.stability import queue_growth
from sim.plan.words import verdict_words
from sim.scenario import Scenario
from sim.workload import load_requests


def scenario(rate=10.0, slo=None, requests=200, **serving) -> Scenario:
    return Scenario.model_validate(
        {
            "model": {"config": "llama-3.1-8b"},
            "cluster": {"node": "l40s-1x"},
            "serving": {"max_num_seqs": 32, "max_num_batched_tokens": 512, **serving},
            "workload": {
                "generator": {
                    "name": "synthetic",
                    "arrivals": {"name": "poisson", "request_rate": rate},
                    "prompt_tokens": {"name": "lognormal", "p50": 200, "p99": 1500},
                    "output_tokens": {"name": "lognormal", "p50": 40, "p99": 300},
                },
                "num_requests": requests,
            },
            "slo": slo or {},
        }
    )


@settings(max_examples=300)
@given(st.integers(1, 3000), st.floats(0.5, 100.0), st.integers(0, 2**32))
def test_as_many_may_miss_as_the_percentile_of_a_summary_ignores(count, percentile, seed):
    values = np.random.default_rng(seed).permutation(count).astype(float)
    reached = np.percentile(values, percentile, method="higher")
    assert np.count_nonzero(values > reached) == may_miss(count, percentile)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([2.0, 12.0, 60.0]),
    st.sampled_from(
        [
            {"ttft_s": 0.1},
            {"tbt_s": 0.08, "percentile": 80.0},
            {"tpot_s": 0.03, "ttft_s": 1.0},
            {"e2e_s": 1.5, "percentile": 50.0},
        ]
    ),
    st.sampled_from([1.0, 1.5]),
    st.sampled_from(["chunked_prefill", "prefill_first", "static"]),
    st.sampled_from([None, 900]),
)
def test_a_run_that_is_ended_early_would_have_missed_the_slo_and_others_are_unchanged(rate, slo, stop, name, longest):
    asked = scenario(rate, slo, scheduler={"name": name}, max_model_len=longest or 4000)
    requests = load_requests(asked.workload, asked.seed)
    early, whole = judge(asked, requests, stop_at=stop), judge(asked, requests, stop_at=TO_THE_END)
    assert early.met == whole.met
    if early.stopped_at_s is None:
        assert early.summary == whole.summary
        assert early.limits == whole.limits
    else:
        reached = {limit.key: limit.reached_s for limit in whole.limits}
        assert all(reached[limit.key] > limit.limit_s * stop for limit in early.limits)
        assert early.worst == pytest.approx(stop)
        assert not early.summary


def test_an_overload_is_ended_after_a_small_part_of_it():
    asked = scenario(rate=1000.0, slo={"ttft_s": 0.2}, requests=20_000)
    requests = load_requests(asked.workload, asked.seed)
    verdict = judge(asked, requests)
    whole_s = len(requests) / 12.0  # it serves some twelve a second
    assert verdict.stopped_at_s < 0.05 * whole_s


def test_without_a_limit_on_waiting_a_growing_queue_is_a_miss():
    slo = {"tbt_s": 10.0}
    assert judge(scenario(4.0, slo, requests=600), load_requests(scenario(4.0, slo, requests=600).workload, 0)).met
    asked = scenario(60.0, slo, requests=600)
    verdict = judge(asked, load_requests(asked.workload, 0))
    assert not verdict.met
    assert verdict.limits[0].ratio < 1.0
    assert verdict.worst > 1.0
    assert "the queue grows by" in verdict_words(verdict, 99.0)


def test_no_limits_at_all_judge_the_queue_alone():
    asked = scenario(60.0, requests=600)
    verdict = judge(asked, load_requests(asked.workload, 0))
    assert not verdict.met
    assert verdict.limits == ()
    assert judge(scenario(4.0, requests=600), load_requests(scenario(4.0, requests=600).workload, 0)).met


def test_words_name_the_limit_and_by_how_much_it_is_off():
    asked = scenario(12.0, {"ttft_s": 5.0, "tbt_s": 0.04})
    verdict = judge(asked, load_requests(asked.workload, 0), stop_at=TO_THE_END)
    words = verdict_words(verdict, 99.0)
    assert words.startswith("misses p99 longest TBT ")
    assert "over 40 ms" in words
    assert "TTFT" not in words


def test_rejected_requests_never_keep_a_limit():
    asked = scenario(5.0, {"ttft_s": 100.0}, max_model_len=100)
    verdict = judge(asked, load_requests(asked.workload, 0), stop_at=TO_THE_END)
    assert math.isinf(verdict.limits[0].reached_s)
    assert "never: requests were rejected" in verdict_words(verdict, 99.0)


@pytest.mark.parametrize(("service", "unstable"), [(0.8, False), (0.95, False), (1.1, True), (2.0, True)])
def test_the_slope_of_a_queue_tells_a_stable_one_from_an_unstable_one(service, unstable):
    """One server, exponential gaps of 1 s, fixed service: finish by Lindley's recursion."""
    for seed in range(5):
        arrival = np.cumsum(np.random.default_rng(seed).exponential(1.0, 8000))
        finish = np.empty_like(arrival)
        free = 0.0
        for i, at in enumerate(arrival.tolist()):
            free = max(free, at) + service
            finish[i] = free
        growth = queue_growth(arrival, finish, 0.02)
        assert growth.unstable == unstable
        if unstable:
            assert growth.share == pytest.approx(1.0 - 1.0 / service, rel=0.3)


def test_a_queue_of_one_request_does_not_grow():
    assert not queue_growth(np.array([1.0]), np.array([2.0]), 0.02).unstable
    assert not queue_growth(np.array([1.0, 1.0]), np.array([2.0, np.nan]), 0.02).unstable
