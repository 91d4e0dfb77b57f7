"""The highest sustainable rate: bisection against a dense sweep, seeds and intervals, and rates far beyond it."""

import math

import numpy as np
import pytest

from hardware_models.errors import FleetcastError
from sim.plan.capacity import requests_at
from sim.plan.judge import TO_THE_END, judge
from sim.plan.rate_search import RateSearch
from sim.plan.sustainable import RateOptions, find_sustainable
from sim.scenario import Scenario


def scenario(rate=8.0, slo=None, duration_s=40.0, workload=None, **serving) -> Scenario:
    generator = {
        "name": "synthetic",
        "arrivals": {"name": "poisson", "request_rate": rate},
        "prompt_tokens": {"name": "lognormal", "p50": 300, "p99": 2000},
        "output_tokens": 60,
    }
    return Scenario.model_validate(
        {
            "seed": 11,
            "model": {"config": "llama-3.1-8b"},
            "cluster": {"node": "l40s-1x"},
            "serving": {"max_num_seqs": 48, "max_num_batched_tokens": 1024, **serving},
            "workload": workload or {"generator": generator, "duration_s": duration_s},
            "slo": {"ttft_s": 0.6, "tbt_s": 0.2, "percentile": 95.0} if slo is None else slo,
        }
    )


def dense_capacity(asked, seed, middle, width=1.5, points=60):
    """Where a sweep of rates goes over from keeping to breaking the SLO: the middle of the first that breaks it and
    the last that keeps it, for one seed, and both.
    """
    rates = middle * np.geomspace(1 / width, width, points)
    kept = []
    for rate in rates.tolist():
        one = asked.model_copy(update={"seed": seed})
        kept.append(judge(one, requests_at(asked.workload, seed, rate), stop_at=TO_THE_END).met)
    assert kept[0]
    assert not kept[-1]
    first_broken, last_kept = rates[kept.index(False)], rates[len(kept) - 1 - kept[::-1].index(True)]
    return math.sqrt(first_broken * last_kept), first_broken, last_kept


SCENARIOS = {
    "prompts": scenario(),
    "tokens": scenario(slo={"tpot_s": 0.035, "ttft_s": 3.0, "percentile": 90.0}, max_num_seqs=128),
    "prefill first": scenario(slo={"e2e_s": 6.0, "percentile": 95.0}, scheduler={"name": "prefill_first"}),
}


def agree(name, seeds, points):
    asked = SCENARIOS[name]
    options = RateOptions(least_seeds=seeds, most_seeds=seeds, error_bars=False)
    found = find_sustainable(asked, options)
    assert found.found
    assert found.bounded
    dense = [dense_capacity(asked, one.seed, found.rate_per_s, points=points) for one in found.seeds]
    step = 1.5 ** (2 / (points - 1))
    inside = [  # the zone where the sweep goes back and forth; a lone rate between two of the sweep may break it
        min(zone) / step <= one.middle_per_s <= max(zone) * step
        for one, (_, *zone) in zip(found.seeds, dense, strict=True)
    ]
    assert sum(inside) >= len(inside) - len(inside) // 6
    mean = math.exp(np.mean([math.log(rate) for rate, *_ in dense]))
    low, high = found.interval_per_s
    assert low <= mean <= high


def test_bisection_agrees_with_a_dense_sweep_within_its_interval():
    agree("prompts", seeds=3, points=25)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_bisection_agrees_with_a_denser_sweep_over_more_seeds(name):
    agree(name, seeds=6, points=60)


def test_the_interval_holds_the_mean_of_many_more_seeds():
    asked = SCENARIOS["prompts"]
    few = find_sustainable(asked, RateOptions(error_bars=False, most_seeds=4))
    later = asked.model_copy(update={"seed": 500})
    many = find_sustainable(later, RateOptions(error_bars=False, least_seeds=24, most_seeds=24))
    low, high = few.interval_per_s
    assert low <= many.rate_per_s <= high
    assert many.half_width < few.half_width


def test_each_seed_s_rate_lies_between_one_that_keeps_and_one_that_breaks():
    asked = SCENARIOS["prompts"]
    found = find_sustainable(asked, RateOptions(most_seeds=3, error_bars=False))
    for one in found.seeds:
        seeded = asked.model_copy(update={"seed": one.seed})
        assert judge(seeded, requests_at(asked.workload, one.seed, one.kept_per_s)).met
        assert not judge(seeded, requests_at(asked.workload, one.seed, one.broken_per_s)).met
        assert one.broken_per_s <= one.kept_per_s * 1.02 * (1 + 1e-9)


def test_seeds_are_added_until_the_interval_is_narrow_enough():
    asked = SCENARIOS["prompts"]
    rough = find_sustainable(asked, RateOptions(precision=5.0, error_bars=False))
    fine = find_sustainable(asked, RateOptions(precision=0.001, most_seeds=5, error_bars=False))
    assert len(rough.seeds) == 3
    assert len(fine.seeds) == 5
    assert "stopped at 5 seeds" in fine.notes[0]
    assert [one.seed for one in fine.seeds] == [11, 12, 13, 14, 15]


def test_error_bars_put_the_safe_rate_below_and_the_hopeful_one_above():
    found = find_sustainable(SCENARIOS["prompts"], RateOptions(most_seeds=1, least_seeds=1))
    assert found.safe_per_s < found.seeds[0].kept_per_s < found.hopeful_per_s
    assert found.proved_per_s >= found.seeds[0].broken_per_s
    assert math.isnan(found.half_width)


def test_error_bars_stand_in_the_same_ratio_to_the_mean_as_to_the_first_seed_s_rate():
    one, more = (find_sustainable(SCENARIOS["prompts"], RateOptions(most_seeds=n, least_seeds=n)) for n in (1, 4))
    assert more.rate_per_s != pytest.approx(one.rate_per_s, rel=0.01)
    for key in ("safe_per_s", "hopeful_per_s"):
        assert getattr(more, key) / more.rate_per_s == pytest.approx(getattr(one, key) / one.rate_per_s)
    assert more.safe_per_s <= more.rate_per_s <= more.hopeful_per_s
    assert more.proved_per_s == one.proved_per_s


def test_a_rate_a_hundred_times_too_high_is_found_out_in_bounded_work():
    near = find_sustainable(scenario(8.0), RateOptions(most_seeds=1, least_seeds=1, error_bars=False))
    far = find_sustainable(scenario(800.0), RateOptions(most_seeds=1, least_seeds=1, error_bars=False))
    assert far.rate_per_s == pytest.approx(near.rate_per_s, rel=0.15)
    assert far.simulations <= near.simulations + 6


def test_rates_that_are_proved_too_high_are_not_simulated():
    search = RateSearch(scenario(8.0))
    assert not search.keeps(11, 400.0)
    assert (search.simulations, search.proved) == (0, 1)
    assert search.keeps(11, 1.0)
    assert search.simulations == 1


def test_stability_is_the_criterion_without_limits():
    asked = scenario(slo={}, duration_s=120.0)
    found = find_sustainable(asked, RateOptions(most_seeds=2, least_seeds=2))
    assert "stability is all that is asked" in found.criterion
    assert found.safe_per_s is None
    with_limits = find_sustainable(
        scenario(duration_s=120.0), RateOptions(most_seeds=1, least_seeds=1, error_bars=False)
    )
    assert found.rate_per_s > with_limits.rate_per_s
    assert found.rate_per_s <= found.proved_per_s * 1.02


def test_an_slo_that_no_rate_keeps_is_an_answer_too():
    found = find_sustainable(scenario(slo={"ttft_s": 1e-4}), RateOptions(most_seeds=4))
    assert not found.found
    assert found.rate_per_s == 0.0
    assert len(found.seeds) == 1
    assert "it is the unloaded latency" in found.notes[0]
    assert found.at_limit.limits[0].ratio > 1.0


def test_a_workload_that_no_rate_overloads_says_so():
    few = {**scenario().workload.model_dump(exclude_none=True), "num_requests": 4}
    few.pop("duration_s")
    found = find_sustainable(scenario(slo={"ttft_s": 100.0}, workload=few), RateOptions(most_seeds=3))
    assert found.found
    assert not found.bounded
    assert "give workload.duration_s" in found.notes[0]


def test_a_trace_file_has_one_capacity_whatever_the_seed(tmp_path):
    rows = "\n".join(f"{t * 0.11 + (t % 7) * 0.01},{100 + 37 * (t % 11)},20" for t in range(300))
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    asked = scenario(workload={"trace": str(tmp_path / "t.csv")})
    found = find_sustainable(asked, RateOptions(most_seeds=6, error_bars=False))
    assert len(found.seeds) == 2
    assert "every seed has the same requests" in found.notes[0]


def test_two_schedulers_see_the_same_requests_at_the_same_rate():
    one, other = RateSearch(scenario()), RateSearch(scenario(scheduler={"name": "orca"}, max_model_len=4000))
    first, second = one.requests(3, 5.0), other.requests(3, 5.0)
    assert np.array_equal(first.arrival_s, second.arrival_s)
    assert np.array_equal(first.prompt_tokens, second.prompt_tokens)


@pytest.mark.parametrize(
    "keys", [{"confidence": 1.0}, {"precision": 0.0}, {"tolerance": 1.0}, {"least_seeds": 0}, {"most_seeds": 2}]
)
def test_options_that_make_no_sense_are_refused(keys):
    with pytest.raises(FleetcastError):
        RateOptions(**keys)
