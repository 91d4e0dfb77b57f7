"""A day's fleet: demand by the hour, types rated by simulation, hours verified, types rated down where they miss."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hardware_models.errors import FleetcastError
from sim.plan import Space
from sim.plan import day as module
from sim.plan.capacity import requests_at
from sim.plan.day import DayOptions, plan_day
from sim.plan.day_demand import DayDemand, day_demand, read_demand
from sim.plan.day_table import day_json
from sim.plan.judge import TO_THE_END, judge
from sim.plan.pools import Verifier, hour_requests, split
from sim.plan.rating import Rated, Rater
from sim.scenario import Scenario


def scenario(**workload) -> Scenario:
    generator = {
        "name": "synthetic",
        "arrivals": {"name": "poisson", "request_rate": 12.0},
        "prompt_tokens": {"name": "lognormal", "p50": 300, "p99": 2000},
        "output_tokens": 60,
    }
    return Scenario.model_validate(
        {
            "name": "chat",
            "seed": 3,
            "model": {"config": "llama-3.1-8b"},
            "cluster": {"node": "l40s-1x"},
            "serving": {"max_num_seqs": 48, "max_num_batched_tokens": 1024},
            "workload": workload or {"generator": generator, "duration_s": 20.0},
            "slo": {"ttft_s": 1.0, "tbt_s": 0.15},
        }
    )


DEMAND = DayDemand((10.0, 10.0, 40.0, 75.0, 40.0, 10.0), "test")
SPACE = Space(nodes=("l40s-1x", "h100-nvl-2x", "t4-1x"), tensor_parallel_sizes=(1,), pipeline_parallel_sizes=(1,))

SHORT = DayOptions(sample_s=20.0)


@pytest.fixture(scope="module")
def planned():
    return plan_day(scenario(), DEMAND, SPACE, options=SHORT)


def test_every_hour_has_enough_capacity_and_keeps_the_slo(planned):
    assert planned.found
    fleet = planned.fleet
    for hour, rate in enumerate(DEMAND.rates_per_s):
        assert sum(one.capacity_per_s * row[hour] for one, row in zip(fleet.types, fleet.running, strict=True)) >= rate
    assert {hour for one in planned.hours for hour in one.hours} == set(range(6))
    assert all(one.verdict.met for one in planned.hours)


def test_equal_hours_with_equal_fleets_are_simulated_once(planned):
    layouts = {one.layout.name: one.layout for one in planned.rated}
    verifier = Verifier(scenario(), DEMAND, layouts, lambda _line: None, 20.0)
    pools = verifier.verify(planned.fleet)
    assert verifier.simulations == len(pools) < sum(len(pool.hours) for pool in pools)
    assert verifier.verify(planned.fleet) == pools
    assert verifier.simulations == len(pools)


def test_gpus_at_once_are_limited():
    space = Space(nodes=("l40s-1x",), tensor_parallel_sizes=(1,), pipeline_parallel_sizes=(1,))
    demand = DayDemand((5.0, 30.0), "test")
    free = plan_day(scenario(), demand, space, options=SHORT)
    most = max(free.fleet.running[0])
    assert most > 1
    held = plan_day(scenario(), demand, space, options=DayOptions(sample_s=20.0, max_gpus=most - 1))
    assert not held.found
    assert "or on GPUs" in held.notes[0]
    assert plan_day(scenario(), demand, space, options=DayOptions(sample_s=20.0, max_gpus=most)).found


def test_every_hour_is_sampled_for_as_long_as_is_said_whatever_the_workload_s_number_of_requests():
    few = scenario()
    few = few.model_copy(update={"workload": few.workload.model_copy(update={"duration_s": None, "num_requests": 60})})
    space = Space(nodes=("l40s-1x",), tensor_parallel_sizes=(1,), pipeline_parallel_sizes=(1,))
    found = plan_day(few, DayDemand((5.0, 30.0), "test"), space, options=DayOptions(sample_s=40.0))
    assert found.simulated_s == (pytest.approx(40.0, rel=0.1), pytest.approx(40.0, rel=0.1))
    assert all(hour["simulated"] for hour in day_json(found)["hours"])


def test_a_quiet_hour_gets_a_longer_sample():
    quiet = scenario(trace="azure-code-2023", duration_s=60.0)
    assert len(hour_requests(quiet, 0.002, 600.0)) >= 2
    assert hour_requests(quiet, 0.002, 600.0).mean_rate_per_s == pytest.approx(0.002)


def test_a_trace_file_s_sample_is_squeezed_to_the_seconds_asked_for(tmp_path):
    rows = "\n".join(f"{t},100,5" for t in range(0, 90_000, 10))
    (tmp_path / "slow.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    table = hour_requests(scenario(trace=str(tmp_path / "slow.csv")), 50.0, 100.0)
    assert table.duration_s == pytest.approx(100.0, rel=0.01)
    assert table.mean_rate_per_s == pytest.approx(50.0)


def test_a_pool_without_requests_gets_no_scenario(planned):
    idle = replace(planned.hours[0], rate_per_s=0.0, verdict=None)
    assert replace(planned, hours=(idle,)).ready() == {}


def test_scaling_and_mixing_are_never_dearer_than_not(planned):
    assert planned.fleet.usd <= planned.single.usd + 1e-6
    assert planned.fleet.usd <= planned.static.usd + 1e-6
    assert planned.fleet.relaxed_usd <= planned.fleet.usd


def test_types_that_cannot_serve_are_left_out_with_a_reason(planned):
    assert set(planned.left_out) == {"t4-1x"}
    assert planned.left_out["t4-1x"]


def test_a_type_is_rated_as_one_of_the_smallest_pool_that_serves_the_peak(planned):
    rated = next(one for one in planned.rated if one.layout.node.name == "l40s-1x")
    assert rated.rungs > 1
    pool = rated.layout.scenario(scenario(), rated.rungs)
    whole = rated.rungs * rated.capacity_per_s
    assert whole >= DEMAND.peak_per_s
    assert judge(pool, requests_at(pool.workload, pool.seed, whole), stop_at=TO_THE_END).met
    assert not judge(pool, requests_at(pool.workload, pool.seed, whole * 1.2), stop_at=TO_THE_END).met
    fewer = rated.layout.scenario(scenario(), rated.rungs - 1)
    assert not judge(fewer, requests_at(pool.workload, pool.seed, DEMAND.peak_per_s), stop_at=TO_THE_END).met


@pytest.mark.parametrize("slo", [{"ttft_s": 0.3, "tbt_s": 0.08}, {"ttft_s": 0.2, "tbt_s": 0.15}])
def test_a_day_of_one_rate_takes_what_a_plan_for_that_rate_takes(slo):
    """Where a node alone sustains little, and a pool of many much more a node."""
    asked = scenario()
    asked = asked.model_copy(update={"slo": asked.slo.model_copy(update=slo)})
    space = Space(nodes=("l40s-1x",), tensor_parallel_sizes=(1,), pipeline_parallel_sizes=(1,))
    day = plan_day(asked, DayDemand((30.0, 30.0), "test"), space, options=DayOptions(sample_s=60.0))
    whole = asked.model_copy(update={"workload": asked.workload.model_copy(update={"duration_s": 60.0})})
    for rung in range(1, 40):
        if judge(
            day.rated[0].layout.scenario(whole, rung), requests_at(whole.workload, 3, 30.0), stop_at=TO_THE_END
        ).met:
            break
    assert day.found
    assert day.fleet.running == ((rung, rung),)


def test_the_plan_is_json_and_its_pools_are_scenarios(planned):
    found = json.loads(json.dumps(day_json(planned), allow_nan=False))
    assert found["found"]
    assert found["energy_usd"] > 0
    ready = planned.ready()
    assert set(ready) == {f"pools/{one.node.replace(' ', '-').lower()}.toml" for one in planned.hours}
    one = next(iter(ready.values()))
    assert one.serving.replicas >= 1


def test_a_type_rated_too_high_is_rated_down_until_its_hours_keep_the_slo(monkeypatch):
    true = Rater.rate

    def boastful(self, layouts):
        rated, why = true(self, layouts)
        return [Rated(one.layout, 1.6 * one.capacity_per_s, one.usd_per_h) for one in rated], why

    monkeypatch.setattr(module.Rater, "rate", boastful)
    found = plan_day(scenario(), DEMAND, Space(nodes=("l40s-1x",), tensor_parallel_sizes=(1,)), options=SHORT)
    assert found.found
    assert found.derated
    first = found.derated[0]
    assert first.after_per_s < first.before_per_s
    assert "misses p99" in first.why
    assert min(found.fleet.types[0].by_hour) == found.derated[-1].after_per_s
    assert {one.hours for one in found.derated} <= set(range(1, 7))


def test_limits_on_types_hold_or_leave_no_answer():
    enough = plan_day(scenario(), DEMAND, SPACE, options=DayOptions(sample_s=20.0, limits={"l40s-1x": 1}))
    row = next(r for one, r in zip(enough.fleet.types, enough.fleet.running, strict=True) if "l40s" in one.name)
    assert max(row) <= 1
    none = DayOptions(sample_s=20.0, limits={"l40s-1x": 1, "h100-nvl-2x": 0})
    none = plan_day(scenario(), DEMAND, SPACE, options=none)
    assert not none.found
    assert "too little capacity" in none.notes[0]
    with pytest.raises(FleetcastError, match="--limit a10-1x: is none of the node types"):
        plan_day(scenario(), DEMAND, SPACE, options=DayOptions(sample_s=20.0, limits={"a10-1x": 1}))


@pytest.mark.parametrize("rate", [3.0, 20.0, 200.0])
def test_a_pool_gets_its_share_of_the_requests_and_every_request_goes_somewhere(rate):
    requests = requests_at(scenario().workload, 3, rate)
    parts = split(requests, np.array([3.0, 1.0]), 3)
    assert sum(map(len, parts)) == len(requests)
    spread = (0.75 * 0.25 / len(requests)) ** 0.5
    assert len(parts[0]) / len(requests) == pytest.approx(0.75, abs=4 * spread)
    assert not set(parts[0].request_id.tolist()) & set(parts[1].request_id.tolist())
    assert split(requests, np.array([2.0]), 3)[0] is requests
    few = requests.head(3)
    whole, none = split(few, np.array([1e6, 1.0]), 3)
    assert len(whole) == 3
    assert none is None
    for seed in range(20):
        pair = split(few, np.array([2.0, 1.0]), seed)
        assert sum(len(part) for part in pair if part is not None) == 3
        assert all(part is None or len(part) > 1 for part in pair)
    again = split(requests, np.array([3.0, 1.0]), 3)
    assert np.array_equal(parts[0].request_id, again[0].request_id)


# -- demand --------------------------------------------------------------------------------------------------------


def test_a_catalog_trace_s_day_is_that_of_its_clients():
    demand = day_demand(scenario(trace="servegen-deepseek-r1", duration_s=60.0, rate_scale=2.0))
    assert len(demand.rates_per_s) == 24
    assert np.mean(demand.rates_per_s) == pytest.approx(2 * 16.0, rel=0.3)
    assert demand.peak_per_s > 1.5 * min(demand.rates_per_s)


def test_a_generator_s_profile_is_integrated_over_hours():
    arrivals = {"name": "profile", "t_s": [0, 43_200], "request_rate": [2.0, 6.0], "period_s": 86_400}
    generator = {"name": "synthetic", "arrivals": arrivals, "prompt_tokens": 10, "output_tokens": 5}
    rates = day_demand(scenario(generator=generator, duration_s=60.0)).rates_per_s
    assert np.mean(rates) == pytest.approx(4.0)
    assert int(np.argmax(rates)) in (11, 12)


def test_a_workload_without_a_course_has_the_same_rate_all_day_and_says_so():
    demand = day_demand(scenario())
    assert len(set(demand.rates_per_s)) == 1
    assert "says nothing of a day's course" in demand.source
    assert day_demand(scenario(), None, 50.0).peak_per_s == 50.0


def test_a_trace_file_of_a_day_gives_its_hours(tmp_path):
    times = [hour * 3600.0 + 10.0 * i for hour in range(24) for i in range(1 + hour)]
    rows = "\n".join(f"{t},100,5" for t in times)
    (tmp_path / "day.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    rates = day_demand(scenario(trace=str(tmp_path / "day.csv"))).rates_per_s
    assert [round(rate * 3600) for rate in rates] == list(range(1, 25))


def test_a_trace_of_days_keeps_all_its_whole_hours(tmp_path):
    times = [hour * 3600.0 + 10.0 * i for hour in range(50) for i in range(1 + hour)]
    rows = "\n".join(f"{t},100,5" for t in times)
    (tmp_path / "days.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    demand = day_demand(scenario(trace=str(tmp_path / "days.csv")))
    assert [round(rate * 3600) for rate in demand.rates_per_s] == list(range(1, 50))
    assert "the 49 whole hours of" in demand.source
    weeks = "\n".join(f"{t},100,5" for t in range(0, 200 * 3600, 600))
    (tmp_path / "weeks.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{weeks}\n")
    with pytest.raises(FleetcastError, match=r"lasts 200 hours, of which a plan takes 168.*--demand"):
        day_demand(scenario(trace=str(tmp_path / "weeks.csv")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the columns"),
        ("hour,rate\n0,1\n", "lacks the columns"),
        ("hour,request_rate\n0,1\n", "has 1 hours"),
        ("hour,request_rate\n0,1\n2,1\n", "line 3: hour = 2"),
        ("hour,request_rate\n0,1\n1,x\n", "line 3: .* is no hour"),
        ("hour,request_rate\n0,1\n1,-3\n", "request_rate = -3"),
        ("hour,request_rate\n0,1\n1,nan\n", "request_rate = nan"),
        ("hour,request_rate\n0,0\n1,0\n", "nothing to plan for"),
        ("hour,request_rate\n0\n1\n", "is no hour"),
    ],
)
def test_a_table_of_demand_that_makes_no_sense_is_refused(tmp_path, text, message):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(FleetcastError, match=message):
        read_demand(tmp_path / "d.csv")


def test_a_table_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("d.csv", "none.csv", "."):
        with pytest.raises(FleetcastError, match="cannot be read"):
            read_demand(tmp_path / name)


def test_a_peak_that_is_no_rate_is_refused():
    with pytest.raises(FleetcastError, match="--rate 0"):
        day_demand(scenario(), None, 0.0)
