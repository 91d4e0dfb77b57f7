from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.graph.executor import execute
from sim.graph.max_plus import lower_bound_s, max_plus
from sim.graph.memory import memory_profile
from sim.training.deployment import deploy_training
from sim.training.result import run_training
from sim.training.simulate import simulate_training
from sim.training.step_graph import StepGraphBuilder
from sim.training_scenario import TrainingScenario


def scenario(nodes: int = 2, model: str = "gpt3-1.3b", **training: Any) -> TrainingScenario:
    keys = {"seq_length": 2048, "global_batch_size": 64, "framework": "megatron-lm-2022", "check_memory": False}
    return TrainingScenario.model_validate(
        {
            "model": {"config": model},
            "cluster": {"node": "dgx-a100-80gb", "nodes": nodes},
            "training": keys | training,
        }
    )


SCHEDULES = st.sampled_from(["gpipe", "1f1b", {"name": "interleaved_1f1b", "chunks": 2}])
PLANS = {
    "tp": st.sampled_from([1, 2]),
    "pp": st.sampled_from([2, 4]),
    "sharding": st.sampled_from(["none", "zero1", "zero2", "zero3"]),
    "recompute": st.sampled_from(["none", "selective", "full"]),
    "framework": st.sampled_from(["megatron-lm-2022", "megatron-core-0.8"]),
    "schedule": SCHEDULES,
}


def plan(tp: int, pp: int, **rest: Any) -> TrainingScenario:
    return scenario(tensor_parallel_size=tp, pipeline_parallel_size=pp, **rest)


@given(**PLANS)
@settings(max_examples=25, deadline=None)
def test_a_step_takes_as_long_on_the_clock_as_by_max_plus_and_never_less_than_its_bound(**keys: Any) -> None:
    graph = StepGraphBuilder(deploy_training(plan(**keys))).build()
    by_max_plus, on_clock = max_plus(graph), execute(graph)
    assert on_clock.makespan_s == pytest.approx(by_max_plus.makespan_s, rel=1e-12)
    np.testing.assert_allclose(on_clock.start_s, by_max_plus.start_s, rtol=1e-12)
    assert lower_bound_s(graph) <= by_max_plus.makespan_s


@given(**PLANS)
@settings(max_examples=25, deadline=None)
def test_all_memory_that_is_taken_is_given_back(**keys: Any) -> None:
    graph = StepGraphBuilder(deploy_training(plan(**keys))).build()
    times = max_plus(graph)
    for pool in range(len(graph.pools)):
        _, used = memory_profile(graph, times, pool)
        assert used.min() >= -1.0
        assert used[-1] == pytest.approx(0.0, abs=1.0)


@given(**PLANS)
@settings(max_examples=15, deadline=None)
def test_shares_of_the_step_sum_to_one_and_energy_is_between_idle_and_the_limit(**keys: Any) -> None:
    result = run_training(plan(**keys))
    summary = result.summary
    assert sum(summary["bound_by"].values()) == pytest.approx(1.0, abs=1e-9)
    assert 50 < summary["mean_power_w_per_gpu"] <= 400
    assert 0 < summary["mfu"] <= summary["hfu"] <= 1
    low, high = summary["interval_90"]["step_s"]
    assert low < summary["step_s"] < high


def test_the_same_scenario_gives_the_same_bytes() -> None:
    first, second = (run_training(plan(tp=2, pp=2)).summary_json() for _ in range(2))
    assert first == second


def test_sharding_more_never_takes_more_memory() -> None:
    peaks = [
        run_training(scenario(sharding=name)).summary["memory"]["owners"]
        for name in ("none", "zero1", "zero2", "zero3")
    ]
    held = [sum(owners.get(part, 0.0) for part in ("weights", "gradients", "optimizer")) for owners in peaks]
    assert held == sorted(held, reverse=True)
    assert held[0] == pytest.approx(held[1] + peaks[0]["optimizer"] * 15 / 16)


def test_recomputing_more_takes_more_time_and_less_memory() -> None:
    runs = [
        run_training(scenario(recompute=name, attention="standard")).summary for name in ("none", "selective", "full")
    ]
    times = [run["step_s"] for run in runs]
    memory = [run["memory"]["owners"]["activations"] for run in runs]
    assert times == sorted(times)
    assert memory == sorted(memory, reverse=True)


def test_fewer_micro_batches_leave_larger_bubbles() -> None:
    bubbles = [
        run_training(scenario(pipeline_parallel_size=8, global_batch_size=batch)).summary["pipeline_bubble_fraction"]
        for batch in (16, 32, 128)
    ]
    assert bubbles == sorted(bubbles, reverse=True)


def test_overlapping_gradient_exchange_hides_some_of_it() -> None:
    apart = run_training(scenario(sharding={"name": "zero1", "overlap_grad_reduce": False})).summary["step_s"]
    beside = run_training(scenario(sharding={"name": "zero1", "overlap_grad_reduce": True})).summary["step_s"]
    assert beside < apart


def test_a_balanced_split_beats_an_even_one_where_the_vocabulary_is_large() -> None:
    keys = {"pipeline_parallel_size": 8, "global_batch_size": 256, "model": "gpt2-large"}
    even = run_training(scenario(**keys)).summary["step_s"]
    balanced = run_training(scenario(**keys, layers_per_stage="balanced")).summary["step_s"]
    assert balanced < 0.9 * even


def test_small_layers_are_bound_by_the_host_that_launches_them() -> None:
    small = run_training(scenario(model="gpt2", seq_length=128, data_parallel_size=1)).summary["bound_by"]
    large = run_training(scenario(model="gpt3-13b", tensor_parallel_size=2)).summary["bound_by"]
    assert max(small, key=lambda share: small[share]) == "launch_fraction"
    assert large["launch_fraction"] < 0.05


def test_a_step_that_need_not_end_together_still_gathers_its_weights() -> None:
    keys = {"pipeline_parallel_size": 4, "schedule": "zb_h1", "tensor_parallel_size": 2}
    gathering = simulate_training(scenario(**keys, sharding={"name": "zero1", "overlap_param_gather": False}))
    first = [task for task, kind in enumerate(gathering.graph.kind) if kind == "param gather"]
    seconds = max(gathering.graph.duration_s[task] for task in first)
    busiest = max(
        sum(
            duration
            for duration, stream in zip(gathering.graph.duration_s, gathering.graph.stream, strict=True)
            if stream >= 0 and gathering.graph.streams[stream] == one
        )
        for one in gathering.graph.streams
        if one.name == "compute"
    )
    assert gathering.step_s >= busiest + seconds


def test_disturbed_shares_sum_to_one_and_full_recomputation_computes_a_third_more() -> None:
    slow = run_training(scenario(pipeline_parallel_size=4, slow_gpus=[{"stage": 1, "slowdown": 1.5}])).summary
    assert sum(slow["bound_by"].values()) == pytest.approx(1.0, abs=1e-9)
    full = run_training(
        scenario(model="gpt3-13b", tensor_parallel_size=8, recompute="full", attention="flash2")
    ).summary
    assert full["hfu"] / full["mfu"] == pytest.approx(4 / 3, rel=0.02)
