"""Engines that come and go under a load: nothing is lost, nothing is held twice, every joule is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from policies.power import SCALERS
from policies.power.energy_per_load import units
from policies.power.scaler import Demand, PoolPlan, Scaler, Terms
from sim.power.engine_states import State
from sim.power.scaler import Load, ScalerLoop
from sim.power_section import PowerSection
from sim.result import Result
from sim.run import run
from sim.scenario import Scenario
from workloads.request import RequestTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Script(Scaler):
    """So many engines of such a size, one plan after another."""

    plans: tuple[tuple[int, int], ...]

    def tensor_parallel_sizes_of(self, own: int) -> tuple[int, ...]:
        return (own, *sorted({1, 2, 4} - {own}))

    def pools(self, demands: Mapping[int, Demand], terms: Terms) -> list[PoolPlan]:
        first = min(demand.arrivals[0][0] for demand in demands.values()) if demands else 0.0
        engines, gpus = self.plans[int(first * 1e6) % len(self.plans)]
        return [PoolPlan((0,), engines, gpus, 0.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(Script):
    """Two pools in one unit of GPUs, of which one would then be sharded finer."""

    @property
    def classes(self) -> int:
        return 2

    def pools(self, demands: Mapping[int, Demand], terms: Terms) -> list[PoolPlan]:
        return [PoolPlan((number,), 1, 2, 0.0) for number in range(2)]

    def sharding(self, plan: PoolPlan, demand: Demand, terms: Terms) -> PoolPlan:
        return PoolPlan((0,), 2, 1, 0.0) if plan.classes == (0,) else plan


def scaled(scaler: dict[str, Any] | None, seed: int = 0, exact: bool = False, **keys: Any) -> Result:
    rate, duration_s, serving = keys.pop("rate", 4.0), keys.pop("duration_s", 20.0), keys.pop("serving", {})
    slo = keys.pop("slo", {"ttft_s": 0.5, "tbt_s": 0.1})
    power = {
        "scaler_period_s": 4.0, "sharding_period_s": 4.0, "scaler_window_s": 3.0, "engine_start_s": 2.0,
        "sharding_start_s": 1.0, **({"scaler": scaler} if scaler else {}), **keys,
    }  # fmt: skip
    tables = {
        "seed": seed,
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "serving": {"replicas": 2, "tensor_parallel_size": 4, "max_num_batched_tokens": 512, **serving},
        "workload": {
            "generator": {
                "name": "synthetic", "arrivals": {"name": "poisson", "request_rate": rate},
                "prompt_tokens": 700, "output_tokens": 150,
            },
            "duration_s": duration_s,
        },
        "slo": slo,
        "power": power,
    }  # fmt: skip
    return run(Scenario.model_validate(tables), exact=exact)


def loop(result: Result) -> ScalerLoop:
    power = result.run.power
    assert power is not None
    assert power.scaler is not None
    return power.scaler


def check_nothing_is_lost(result: Result) -> None:
    summary, states = result.summary, loop(result).states
    assert summary["completed"] == summary["requests"]
    assert all(replica.blocks.free == replica.blocks.total for replica in result.run.replicas)
    assert all(replica.outstanding == 0 for replica in result.run.replicas)
    owner = dict.fromkeys(range(8), -1)
    present = [[(0.0, False)] for _ in states.places]
    for at_s, number, state in states.changes:
        place = states.places[number]
        for gpu in range(place.first, place.first + place.gpus):
            assert state is State.OFF or owner[gpu] in (-1, number)  # no GPU is two engines'
            if owner[gpu] in (-1, number):
                owner[gpu] = -1 if state is State.OFF else number
        present[number].append((at_s, state in (State.SERVING, State.DRAINING)))
    steps = result.steps
    for number, start_s in zip(steps["replica"], steps["start_s"], strict=True):
        at = np.searchsorted([at_s for at_s, _ in present[number]], start_s + 1e-9, side="right") - 1
        assert present[number][at][1]  # no step of an engine that is off, or still starts


def check_every_joule_is_counted(result: Result) -> None:
    summary, found = result.summary, result.summary["scaler"]
    parts = summary["energy"]["parts_j"]
    gpus_j = sum(parts[name] for name in ("prompt", "decode", "waiting", "unused"))
    assert gpus_j == pytest.approx(summary["energy_j"], rel=1e-9)
    power, duration_s = result.power, summary["duration_s"]
    cluster = power[power["scope"] == "cluster"]
    assert cluster["watts"].mean() * duration_s == pytest.approx(summary["energy_j"], rel=1e-9)
    assert sum(found["gpu_h_by_tensor_parallel_size"].values()) * 3600.0 == pytest.approx(
        cluster["gpus_held"].mean() * duration_s, rel=1e-9
    )
    free_j = summary["energy_j"] - found["held_energy_j"]
    assert free_j == pytest.approx((8 - found["gpus_held"]) * duration_s * idle_w(result), rel=1e-6, abs=1e-3)
    assert cluster["gpus_held"].max() <= 8.0 + 1e-9
    sizes = power[power["scope"] == "tensor_parallel_size"]
    there = sizes["serving"] + sizes["starting"] + sizes["draining"]
    np.testing.assert_allclose(there * sizes["id"], sizes["gpus_held"], atol=1e-9)
    assert sizes["gpus_held"].sum() == pytest.approx(cluster["gpus_held"].sum(), rel=1e-9)


def idle_w(result: Result) -> float:
    from hardware_models.power import power_model

    return power_model(result.run.deployment.gpu).idle_w


PLANS = st.sampled_from([(2, 4), (1, 4), (4, 2), (1, 2), (3, 2), (8, 1), (2, 1), (5, 1)])


@settings(max_examples=4)
@given(st.integers(0, 100), st.lists(PLANS, min_size=2, max_size=4), st.sampled_from([0.0, 2.0, 9.0]))
def test_no_request_no_kv_and_no_joule_is_lost_while_engines_start_drain_and_are_sharded_anew(
    seed: int, plans: list[tuple[int, int]], start_s: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALERS, "script", Script)
        fast, slow = (
            scaled({"name": "script", "plans": plans}, seed, exact, engine_start_s=start_s, duration_s=12.0)
            for exact in (False, True)
        )
    check_nothing_is_lost(fast)
    check_every_joule_is_counted(fast)
    assert [plan for _, plan in loop(fast).plans] == [plan for _, plan in loop(slow).plans]
    np.testing.assert_allclose(fast.request_columns["e2e_s"], slow.request_columns["e2e_s"], rtol=1e-9)
    assert fast.summary["energy_j"] == pytest.approx(slow.summary["energy_j"], rel=1e-9)


def test_a_light_load_is_served_within_its_limits_for_half_the_joules_of_all_replicas() -> None:
    on = scaled({"name": "always_on"}, rate=3.0, duration_s=30.0)
    alone = scaled(None, rate=3.0, duration_s=30.0)
    fewer = scaled(
        {"name": "energy_per_load", "tensor_parallel_sizes": [1, 2, 4]}, rate=3.0, duration_s=30.0,
        scaler_forecast="known", governor={"name": "slo_clock"},
    )  # fmt: skip
    assert not any("decided nothing" in note for note in on.summary["notes"])
    brief = scaled({"name": "always_on"}, duration_s=2.0)
    assert any("power.scaler decided nothing" in note for note in brief.summary["notes"])
    assert on.summary["energy_j"] == pytest.approx(alone.summary["energy_j"], rel=1e-12)  # scaling nothing is nothing
    assert fewer.summary["slo"]["met"]
    assert fewer.summary["energy_j"] < 0.7 * on.summary["energy_j"]
    assert fewer.summary["scaler"]["gpus_held"] < 4.0
    check_nothing_is_lost(fewer)
    check_every_joule_is_counted(fewer)


def test_requests_wait_while_the_only_engine_is_sharded_anew_and_are_then_served() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALERS, "script", Script)
        result = scaled({"name": "script", "plans": [(2, 2)]}, serving={"replicas": 1}, sharding_start_s=3.0)
    assert result.summary["scaler"]["requests_held"] > 0
    assert result.summary["scaler"]["reshards"] == 2
    check_nothing_is_lost(result)
    waited = result.requests["queue_s"].max()
    assert 2.0 < waited < 10.0  # they saw the old engine drain and the new ones start


def test_pools_that_would_need_more_gpus_once_sharded_anew_are_decided_anew() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALERS, "split", Split)
        keys: dict[str, Any] = {"serving": {"replicas": 1}, "scaler_period_s": 9.0, "duration_s": 10.0}
        result = scaled({"name": "split", "plans": [(1, 4)]}, **keys)
    found = loop(result)
    assert len(found.plans) > 1
    assert all(units(plans, found.terms) == 1 for _, plans in found.plans)


def test_more_requests_at_one_instant_than_a_load_samples_have_a_rate() -> None:
    count = 1500
    requests = RequestTable.build(
        source="burst", arrival_s=[4.0] * count, prompt_tokens=[100] * count, output_tokens=[2] * count
    )
    demands = Load(requests, np.zeros(count, np.int64), PowerSection(scaler_window_s=3.0)).demands(4.0, 8.0, 1)
    assert demands is not None
    assert demands[0].of_one(1, 1.0).rate_per_s == pytest.approx(count / 3.0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scaler_window_s": 1e-9}, "scaler_window_s"),
        ({"governor": {"name": "slo_clock"}, "governor_clocks_mhz": [-3.0]}, "is no clock"),
        ({"slo": {}}, "there are none"),
        ({"scaler": {"name": "energy_per_lod"}}, "energy_per_load"),
        ({"scaler": {"name": "energy_per_load", "tensor_parallel_sizes": [3]}}, "divide the largest"),
        ({"sharding_period_s": 5.0}, "longer than scaler_period_s"),
        ({"row_limit_w": 9000.0}, "do not go together"),
        ({"serving": {"low_priority_replicas": 1}}, "not by priority"),
        ({"serving": {"pipeline_parallel_size": 2, "tensor_parallel_size": 2}}, "replicas of one stage"),
        ({"scaler_forecast": "oracle"}, "known"),
    ],
)
def test_nonsense_of_scaling_is_refused_in_a_sentence(keys: dict[str, Any], message: str) -> None:
    with pytest.raises((FleetcastError, ValueError), match=message):
        scaled(keys.pop("scaler", {"name": "energy_per_load"}), **keys)


@pytest.mark.parametrize(("forecast", "counts"), [("recent", [2, 0]), ("known", [3, 0])])
def test_silence_is_a_load_of_nothing_and_what_comes_now_is_known(forecast: str, counts: list[int]) -> None:
    requests = RequestTable.build(
        source="few", arrival_s=[0.0, 10.0, 20.0], prompt_tokens=[9, 9, 9], output_tokens=[9, 9, 9]
    )
    section = PowerSection.model_validate(
        {"scaler": {"name": "always_on"}, "scaler_window_s": 30.0, "scaler_forecast": forecast}
    )
    load = Load(requests, np.zeros(3, dtype=np.int64), section)
    for (now_s, until_s), count in zip(
        ((30.0 if forecast == "recent" else 0.0, 60.0), (90.0, 120.0)), counts, strict=True
    ):
        demands = load.demands(now_s, until_s, 1)
        assert demands is not None
        assert len(demands[0].arrivals) == count
