"""Slow GPUs, slow cards and varying passes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario


def step_s(exact: bool = False, **training: Any) -> float:
    keys = {"seq_length": 2048, "global_batch_size": 32, "framework": "megatron-lm-2022", "check_memory": False}
    scenario = TrainingScenario.model_validate(
        {
            "model": {"config": "gpt3-1.3b"},
            "cluster": {"node": "dgx-a100-80gb", "nodes": 2},
            "training": keys | {"tensor_parallel_size": 2, "pipeline_parallel_size": 4} | training,
        }
    )
    return float(run_training(scenario, exact=exact).summary["step_s"])


def test_a_slow_gpu_makes_a_step_longer_by_no_more_than_its_own_factor() -> None:
    alike = step_s()
    for stage in range(4):
        slow = step_s(slow_gpus=[{"stage": stage, "replica": 1, "slowdown": 1.5}])
        assert alike < slow <= 1.5 * alike


def test_the_slowest_of_two_copies_counts() -> None:
    one = step_s(slow_gpus=[{"stage": 0, "replica": 1, "slowdown": 1.5}])
    two = step_s(slow_gpus=[{"stage": 0, "replica": 1, "slowdown": 1.5}, {"stage": 0, "replica": 0, "slowdown": 1.2}])
    assert two == pytest.approx(one, rel=1e-12)


def test_a_pipeline_without_stages_is_as_slow_as_its_slowest_gpu() -> None:
    keys = {"pipeline_parallel_size": 1, "tensor_parallel_size": 8, "sharding": "none"}
    alike, slow = step_s(**keys), step_s(**keys, slow_gpus=[{"slowdown": 2.0}])
    exchange = step_s(**keys | {"slow_cards": [{"slowdown": 2.0}]}) - alike
    assert slow == pytest.approx(2 * alike - exchange, rel=0.02)  # all but host and exchange takes twice as long


def test_a_slow_card_matters_only_where_bytes_leave_the_server() -> None:
    alike = step_s()
    assert step_s(slow_cards=[{"stage": 1, "slowdown": 1.0}]) == pytest.approx(alike, rel=1e-12)
    assert step_s(slow_cards=[{"stage": 1, "slowdown": 50.0}]) > 1.05 * alike


@given(jitter=st.floats(0.0, 0.2))
@settings(max_examples=8, deadline=None)
def test_varying_passes_cost_time_and_never_more_than_the_worst_draw_everywhere(jitter: float) -> None:
    alike, varied = step_s(), step_s(jitter_fraction=jitter)
    assert varied >= alike * (1 - 6 * jitter)
    assert varied <= alike * pow(2.718281828, 6 * jitter) + 1e-9


def test_the_clock_agrees_with_max_plus_on_disturbed_steps() -> None:
    keys: dict[str, Any] = {"jitter_fraction": 0.05, "slow_gpus": [{"stage": 2, "slowdown": 1.2}]}
    assert step_s(exact=True, **keys) == pytest.approx(step_s(**keys), rel=1e-9)


def test_a_rank_that_is_not_there_is_refused() -> None:
    with pytest.raises(FleetcastError, match="stage 4 of replica 0 is none of 4 stages of 2 replicas"):
        step_s(slow_gpus=[{"stage": 4, "slowdown": 2.0}])


def test_too_many_copies_to_draw_are_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.training.disturbed.MAX_TASKS", 100)
    with pytest.raises(FleetcastError, match="more than 100 tasks; ask for a smaller"):
        step_s(jitter_fraction=0.1)


def test_two_slow_cards_on_a_ring_are_no_slower_than_one() -> None:
    one = step_s(slow_cards=[{"stage": 1, "replica": 0, "slowdown": 20.0}])
    assert step_s(slow_cards=[{"stage": 1, "replica": r, "slowdown": 20.0} for r in (0, 1)]) == pytest.approx(one)


def test_slow_cards_that_nothing_crosses_are_refused() -> None:
    with pytest.raises(FleetcastError, match="leave a server in this layout"):
        step_s(slow_cards=[{"slowdown": 2.0}], data_parallel_size=1, pipeline_parallel_size=1, sharding="none")
