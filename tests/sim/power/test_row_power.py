"""A row of servers on the clock: what is metered is what is drawn, and what is ordered happens when it should."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.facility import overloads
from hardware_models.power import power_model
from hardware_models.server_power import server_power
from sim.power.account import power_frame, power_summary, row_series
from sim.power.row import RowLog, RowLoop
from sim.power_section import PowerSection
from sim.result import Result
from sim.run import run
from sim.scenario import Scenario
from sim.serving.attribution import attribute_stages
from sim.serving.energy import run_watts

GPU = catalog.gpu("h100-sxm")
ROW = {"row_limit_w": 13_000.0, "actuation_delay_s": 3.3, "policy": {"name": "polca", "t1_low_mhz": 1400.0}}


def row_of(
    seed: int = 0, *, rate: float = 4.0, low: int = 2, exact: bool = False, nodes: int = 2, **power: Any
) -> Result:
    """Four replicas of four GPUs each on two servers, half a minute of two kinds of requests."""
    clients = [
        {
            "name": name,
            "priority": int(name == "low" and low > 0),
            "arrivals": {"name": "poisson", "request_rate": rate},
            "prompt_tokens": {"name": "uniform", "min_tokens": 100, "max_tokens": 6000},
            "output_tokens": {"name": "uniform", "min_tokens": 1, "max_tokens": 400},
        }
        for name in ("high", "low")
    ]
    tables = {
        "seed": seed,
        "model": {"config": "llama-3-70b"},
        "cluster": {"node": "dgx-h100", "nodes": nodes},
        "serving": {"replicas": 4, "tensor_parallel_size": 4, "low_priority_replicas": low},
        "workload": {"generator": {"name": "clients", "clients": clients}, "duration_s": 30.0},
        "power": power or ROW,
    }
    return run(Scenario.model_validate(tables), exact=exact)


@cache
def usual() -> Result:
    return row_of()


def loop(result: Result) -> RowLoop:
    power = result.run.power
    assert power is not None
    assert power.row is not None
    return power.row


@settings(max_examples=5)
@given(
    st.integers(0, 1000),
    st.floats(0.3, 20.0),
    st.floats(0.5, 6.0),
    st.sampled_from([11_000.0, 12_000.0, 13_500.0]),
)
def test_clock_changes_within_a_run_of_steps_split_it_exactly(
    seed: int, delay_s: float, period_s: float, limit_w: float
) -> None:
    power = ROW | {"row_limit_w": limit_w, "actuation_delay_s": delay_s, "telemetry_period_s": period_s}
    fast, slow = (row_of(seed, exact=exact, **power) for exact in (False, True))
    assert fast.summary["runs"] < slow.summary["runs"]
    np.testing.assert_allclose(fast.request_columns["e2e_s"], slow.request_columns["e2e_s"], rtol=1e-9)
    assert loop(fast).log.orders == loop(slow).log.orders
    assert len(loop(fast).log.changes) > 0
    assert fast.summary["steps"] == slow.summary["steps"]
    np.testing.assert_allclose(np.array(loop(fast).log.gpu_w), np.array(loop(slow).log.gpu_w), rtol=1e-9)


def test_readings_add_up_to_the_energy_of_all_steps_and_of_waiting_between_them() -> None:
    result = usual()
    run_, power = result.run, result.run.power
    assert power is not None
    log, columns = loop(result).log, run_.runs.columns()
    end_s, ranks = log.t_s[-1], run_.deployment.gpus_per_replica
    attribution = attribute_stages(columns, run_.deployment.stages_at)[0]
    watts = run_watts(columns, run_.deployment, attribution, 0)
    replica, start_s = columns["replica"].astype(int), columns["start_s"]
    steps_j = ranks * float(np.sum(watts * attribution.busy_s))
    awake = power.awake
    busy_j = awake.until(replica, start_s + attribution.busy_s) - awake.until(replica, start_s)
    idle_j = ranks * float(awake.until(np.arange(4), np.full(4, end_s)).sum() - busy_j.sum())
    read_j = float(np.sum(log.gpu_w)) * 2.0
    assert read_j == pytest.approx(steps_j + idle_j, rel=1e-9)
    assert len(set(columns["clock"])) > 1  # some steps ran slowed, and both sums know
    series = row_series(log, 2.0)
    assert series.energy_j == pytest.approx(result.summary["power"]["row_energy_j"], rel=1e-12)
    assert series.energy_j > read_j  # the rest of the servers draws too


def test_low_priority_pays_first_and_has_replicas_of_its_own() -> None:
    result = usual()
    requests, power = result.requests, result.summary["power"]
    assert set(requests.loc[requests["priority"] > 0, "replica"]) == {2, 3}
    assert set(requests.loc[requests["priority"] == 0, "replica"]) == {0, 1}
    assert power["low_priority_locked_s"] > 0.0
    assert power["low_priority_locked_s"] >= power["high_priority_locked_s"]
    clocks = result.run.runs.columns()
    slowed = clocks["clock"] <= 1400e6 / GPU.boost_clock_hz + 1e-12
    assert slowed[clocks["replica"] >= 2].sum() > slowed[clocks["replica"] < 2].sum()


@settings(max_examples=4)
@given(st.integers(0, 1000), st.floats(0.0, 8.0), st.floats(0.5, 4.0))
def test_a_row_is_above_its_limit_no_longer_than_the_loop_takes(seed: int, delay_s: float, period_s: float) -> None:
    policy = {"name": "one_threshold", "threshold_fraction": 0.95, "clock_mhz": 600.0, "all_servers": True}
    settings_ = {"row_limit_w": 11_500.0, "policy": policy, "actuation_delay_s": delay_s, "brake_delay_s": 3600.0}
    result = row_of(seed, low=0, telemetry_period_s=period_s, **settings_)
    log = loop(result).log
    series = row_series(log, period_s)
    spans = overloads(series.t_s, series.watts, 11_500.0)
    assert len(spans)  # it does happen: a load that needs no cap would show nothing
    longest = float(np.max(spans[:, 1] - spans[:, 0]))
    assert longest <= delay_s + 2.0 * period_s + 1e-9


def test_the_brake_catches_what_nobody_else_does() -> None:
    power = {"row_limit_w": 10_500.0, "brake_delay_s": 1.0, "telemetry_period_s": 1.0}
    result = row_of(low=0, **power)
    found = result.summary["power"]
    assert found["brakes"] > 0
    assert found["braked_s"] > 0.0
    frame = power_frame(result.run.power)
    row = frame[frame["scope"] == "row"]
    held = row["brake"].to_numpy()
    settled = held & np.concatenate([[False], held[:-1]])
    assert row["watts"][settled].max() < 10_500.0
    servers = frame[frame["scope"] == "server"].groupby("t_s")["watts"].sum()
    np.testing.assert_allclose(servers.to_numpy(), row["watts"].to_numpy(), rtol=1e-12)


@settings(max_examples=4)
@given(st.integers(0, 1000), st.sampled_from([250.0, 350.0, 500.0]))
def test_no_gpu_draws_more_than_its_limit_and_a_lower_one_is_never_faster(seed: int, limit_w: float) -> None:
    capped, free = (row_of(seed, low=0, gpu_power_limit_w=watts) for watts in (limit_w, GPU.tdp_w))
    runs, deployment = capped.run.runs.columns(), capped.run.deployment
    watts = run_watts(runs, deployment, capped.attributions[0], 0)
    lowest = runs["clock"] <= 10 / 64 + 1e-12
    assert np.all(watts[~lowest] <= limit_w * (1.0 + 1e-9))
    assert np.min(runs["clock"]) < 1.0
    assert capped.summary["output_tokens"] == free.summary["output_tokens"]
    assert capped.summary["energy_j"] <= free.summary["energy_j"]
    assert capped.summary["e2e_s"]["mean"] >= free.summary["e2e_s"]["mean"] - 1e-9


def test_prompts_feel_the_clock_and_decoding_hardly_does() -> None:
    free = row_of(low=0, rate=0.2, gpu_power_limit_w=GPU.tdp_w)
    slow = row_of(low=0, rate=0.2, clock_mhz=990.0)
    prompts = slow.summary["ttft_s"]["p50"] / free.summary["ttft_s"]["p50"]
    decoding = slow.summary["tpot_s"]["p50"] / free.summary["tpot_s"]["p50"]
    assert 1.5 < prompts < 2.1  # at half of the boost clock
    assert 1.0 < decoding < 1.15
    assert slow.summary["energy_j_per_output_token"] < free.summary["energy_j_per_output_token"]


def test_gpus_between_steps_draw_less_at_a_lower_clock() -> None:
    model = power_model(GPU)
    slow, fast = (row_of(low=0, rate=0.2, clock_mhz=mhz) for mhz in (400.0, 1980.0))
    assert slow.run.power is not None
    watts = slow.run.power.awake.until(np.array([0]), np.array([1.0]))[0]
    assert model.idle_w < watts < model.awake_w
    assert fast.run.power is not None
    assert fast.run.power.awake.until(np.array([0]), np.array([2.0]))[0] == pytest.approx(2.0 * model.awake_w)


def test_runs_under_a_binding_power_limit_are_as_exact_as_single_steps() -> None:
    """The limit binds in decoding too, the clock moves as contexts grow, and locks change in the middle of runs."""
    tables = usual().scenario.model_dump()
    tables["model"]["config"] = "mistral-7b"
    tables["workload"]["duration_s"] = 5.0
    policy = {"name": "one_threshold", "clock_mhz": 600.0, "all_servers": True}
    tables["power"] = {"gpu_power_limit_w": 210.0, "row_limit_w": 8_000.0, "actuation_delay_s": 0.7, "policy": policy}
    fast, slow = (run(Scenario.model_validate(tables), exact=exact) for exact in (False, True))
    assert fast.summary["runs"] < 0.5 * slow.summary["runs"]  # runs of throttled steps are runs
    clocks = fast.run.runs.columns()
    assert len(set(clocks["clock"][clocks["prefill_tokens"] == 0.0])) > 1
    np.testing.assert_allclose(fast.request_columns["e2e_s"], slow.request_columns["e2e_s"], rtol=1e-9)
    np.testing.assert_allclose(np.array(loop(fast).log.gpu_w), np.array(loop(slow).log.gpu_w), rtol=1e-9)
    assert fast.summary["energy_j"] == pytest.approx(slow.summary["energy_j"], rel=1e-9)


def test_what_takes_effect_after_the_last_reading_counts_for_nothing() -> None:
    section = PowerSection(row_limit_w=100.0)
    log = RowLog([2.0, 4.0], [np.array([90.0])] * 2, [np.array([50.0])] * 2)
    log.changes = [(3.0, 900.0, None, False), (5.0, None, 900.0, True)]
    power = SimpleNamespace(row=SimpleNamespace(log=log), limit_w=100.0)
    columns = {"priority": np.zeros(0), "ttft_s": np.zeros(0), "tpot_s": np.zeros(0), "e2e_s": np.zeros(0)}
    found = power_summary(power, section, columns)["power"]  # type: ignore[arg-type]
    assert (found["low_priority_locked_s"], found["high_priority_locked_s"], found["braked_s"]) == (1.0, 0.0, 0.0)
    assert found["brakes"] == 0


def test_servers_that_serve_nothing_draw_what_idle_ones_do() -> None:
    result = row_of(nodes=3, row_limit_w=30_000.0)
    idle_w = server_power(catalog.node("dgx-h100")).idle_w
    assert [watts[2] for watts in loop(result).log.server_w] == pytest.approx([idle_w] * len(loop(result).log.t_s))


NONSENSE = [
    ({"row_limit_w": 3_000.0}, {}, "not above the"),
    ({"row_limit_w": 20_000.0, "provisioned_nodes": 3}, {}, "not both"),
    ({"row_limit_w": -1.0}, {}, "greater than 0"),
    ({"gpu_power_limit_w": 60.0}, {}, "draws"),
    ({"gpu_power_limit_w": 900.0}, {}, "is the most it may"),
    ({"clock_mhz": 2500.0}, {}, "runs at 1980 MHz at most"),
    ({**ROW, "policy": {"name": "polca", "t1_fraction": 0.9, "t2_fraction": 0.8}}, {}, "below the second"),
    ({**ROW, "policy": {"name": "polca", "t1_fraction": -0.1}}, {}, "above 0"),
    ({**ROW, "policy": {"name": "polka"}}, {}, "polca"),
    ({**ROW, "policy": {"name": "polca", "t2_low_mhz": 9999.0}}, {}, "runs at 1980 MHz"),
    ({"policy": {"name": "polca"}}, {}, "there is none"),
    (ROW, {"low": 0}, "low priority"),
    (ROW, {"low": 4}, "leaves none of 4 replicas"),
]


@pytest.mark.parametrize(("power", "keys", "message"), NONSENSE)
def test_nonsense_is_refused_in_a_sentence(power: dict[str, Any], keys: dict[str, Any], message: str) -> None:
    with pytest.raises((FleetcastError, ValueError), match=message):
        row_of(**keys, **power)
