"""A governor sets each replica's clock to its load: in time, on time, and for less energy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from policies.power import SloClock
from policies.power.governor import Objective, ReplicaLoad
from sim.power.governor import GovernorLoop
from sim.result import Result
from sim.run import run
from sim.scenario import Scenario

BOOST_MHZ = 1980.0
ROW = {"row_limit_w": 12_000.0, "actuation_delay_s": 3.3, "policy": {"name": "one_threshold", "all_servers": True}}


def governed(seed: int = 0, *, exact: bool = False, by: Any = "slo_clock", slo: Any = None, **power: Any) -> Result:
    """Two replicas of four GPUs each, half a minute of requests that come faster and slower."""
    tables = {
        "seed": seed,
        "model": {"config": "llama-3-70b"},
        "cluster": {"node": "dgx-h100"},
        "serving": {"replicas": 2, "tensor_parallel_size": 4, "max_num_seqs": 64, "max_num_batched_tokens": 512},
        "workload": {
            "duration_s": 30.0,
            "generator": {
                "name": "synthetic",
                "arrivals": {"name": "profile", "t_s": [0, 15, 30], "request_rate": [1.0, 5.0, 1.0]},
                "prompt_tokens": {"name": "uniform", "min_tokens": 100, "max_tokens": 2000},
                "output_tokens": {"name": "uniform", "min_tokens": 1, "max_tokens": 200},
            },
        },
        "slo": {"ttft_s": 0.5, "tbt_s": 0.2} if slo is None else slo,
        "power": power | ({"governor": by if isinstance(by, dict) else {"name": by}} if by else {}),
    }
    return run(Scenario.model_validate(tables), exact=exact)


@cache
def usual() -> Result:
    return governed(governor_period_s=2.0, governor_delay_s=0.5)


def loop(result: Result) -> GovernorLoop:
    power = result.run.power
    assert power is not None
    assert power.governor is not None
    return power.governor


@settings(max_examples=4)
@given(st.integers(0, 1000), st.floats(0.3, 4.0), st.floats(0.0, 3.0), st.booleans(), st.sampled_from([0.35, 0.6]))
def test_clocks_by_load_are_the_same_whether_steps_are_simulated_one_by_one_or_as_runs(
    seed: int, period_s: float, delay_s: float, row: bool, ttft_s: float
) -> None:
    power = {"governor_period_s": period_s, "governor_delay_s": delay_s, **(ROW if row else {})}
    fast, slow = (governed(seed, exact=exact, slo={"ttft_s": ttft_s}, **power) for exact in (False, True))
    assert loop(fast).orders == loop(slow).orders
    assert len(loop(fast).orders) > 0
    assert fast.summary["runs"] < slow.summary["runs"]
    np.testing.assert_allclose(fast.request_columns["e2e_s"], slow.request_columns["e2e_s"], rtol=1e-9)
    assert fast.summary["energy_j"] == pytest.approx(slow.summary["energy_j"], rel=1e-9)


def test_the_promise_is_kept_for_less_energy_at_lower_clocks() -> None:
    slow, fast = usual(), governed(by=None)
    assert slow.summary["slo"]["met"]
    assert slow.summary["energy_j"] < 0.85 * fast.summary["energy_j"]
    assert slow.summary["output_tokens"] == fast.summary["output_tokens"]
    assert slow.summary["ttft_s"]["p99"] > fast.summary["ttft_s"]["p99"]
    assert len({mhz for _, _, mhz in loop(slow).orders}) > 1


def test_choices_come_once_a_period_and_are_in_effect_a_delay_later_unless_others_hold_the_clock_lower() -> None:
    result = usual()
    steps = result.run.runs.columns()
    assert all(at_s % 2.0 == pytest.approx(0.0, abs=1e-9) for at_s, _, _ in loop(result).orders)
    for replica in (0, 1):
        own = steps["replica"] == replica
        orders = [(0.0, BOOST_MHZ)] + [(at + 0.5, mhz) for at, who, mhz in loop(result).orders if who == replica]
        at = np.searchsorted([at_s for at_s, _ in orders], steps["start_s"][own] + 1e-9, side="right") - 1
        expected = np.array([mhz for _, mhz in orders])[at] / BOOST_MHZ
        assert np.all(steps["clock"][own] <= expected + 1e-12)
        slowed = expected < 0.7  # beyond, the GPU's own limit may lower it
        np.testing.assert_allclose(steps["clock"][own][slowed], expected[slowed], rtol=1e-12)
    found = result.summary["governor"]
    assert found["orders"] == len(loop(result).orders)
    assert 792.0 < found["mean_clock_mhz"] < BOOST_MHZ
    held = governed(clock_mhz=1000.0)
    assert held.run.runs.columns()["clock"].max() <= 1000.0 / BOOST_MHZ + 1e-12


class Inverse:
    """Steps of a millisecond and a microsecond a token, at 1,000 MHz."""

    def step_s(self, mhz: float, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        return (1e-3 + 1e-5 * prompt_tokens + 1e-5 * sequences) * 1000.0 / mhz


def test_the_lowest_clock_that_would_have_kept_up_with_the_prompts_of_late_is_chosen() -> None:
    clocks = [500.0, 1000.0, 1500.0, 2000.0]

    def choice(came: list[tuple[float, int]], objective: Objective, waiting: int = 0, sequences: int = 0) -> float:
        load = ReplicaLoad(sequences, 0, waiting, came, 1000)
        return SloClock(margin_fraction=0.0).choose(load, Inverse(), clocks, objective)

    lone = [(float(at), 1000) for at in range(60)]  # 11 ms each at 1,000 MHz, and a step under way
    assert choice(lone, Objective(0.013, None, 99.0)) == 1000.0
    assert choice(lone, Objective(0.025, None, 99.0)) == 500.0
    assert choice(lone, Objective(0.001, None, 99.0)) == 2000.0  # none does: as fast as can be
    pair = [*lone, (60.0, 1000), (60.0, 1000)]  # the second queues for 11 ms
    assert choice(pair, Objective(0.013, None, 99.0)) == 2000.0
    assert choice(pair, Objective(0.013, None, 95.0)) == 1000.0  # one of 62 may be late
    assert choice([], Objective(0.02, None, 99.0), waiting=3000) == 2000.0
    assert choice(lone, Objective(None, 0.012, 99.0)) == 1000.0
    assert choice([(0.0, 100)], Objective(None, 0.012, 99.0)) == 500.0
    assert choice([(0.0, 100)], Objective(None, 0.012, 99.0), sequences=900) == 1000.0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"slo": {}}, "there are none"),
        ({"governor_clocks_mhz": [1000.0, 2500.0]}, "runs at 1980 MHz at most"),
        ({"governor_clocks_mhz": []}, "at least 1"),
        ({"governor_period_s": 0.0}, "greater than or equal to 0.1"),
        ({"by": "slo_clok"}, "slo_clock"),
        ({"by": {"name": "slo_clock", "margin_fraction": 1.0}}, "less than 1"),
    ],
)
def test_nonsense_of_a_governor_is_refused_in_a_sentence(keys: dict[str, Any], message: str) -> None:
    with pytest.raises((FleetcastError, ValueError), match=message):
        governed(**keys)
