"""The search for the fastest training plan finds what trying every plan finds."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import training_scenario

from hardware_models.errors import FleetcastError, ImpossibleError, UnknownNameError
from sim.plan.training.evaluator import Evaluator
from sim.plan.training.planner import plan_training
from sim.plan.training.search import FRONT_BYTES, FRONT_STEP, PlanSearch
from sim.plan.training.space import TrainingSpace
from sim.training.result import run_training

SPACE = TrainingSpace(tensor_parallel_sizes=(1, 2, 4), pipeline_parallel_sizes=(1, 2, 4), micro_batch_sizes=(1, 2))


@given(
    nodes=st.sampled_from([1, 2]),
    model=st.sampled_from(["gpt3-1.3b", "llama-3.1-8b"]),
    node=st.sampled_from(["dgx-a100-80gb", "dgx-h100"]),
    framework=st.sampled_from(["megatron-lm-2022", "megatron-core-0.8"]),
    batch=st.sampled_from([16, 48]),
    tp=st.sampled_from([2, 4]),
)
@settings(max_examples=6, deadline=None)
def test_the_best_ten_are_those_of_an_exhaustive_search(
    nodes: int, model: str, node: str, framework: str, batch: int, tp: int
) -> None:
    base = training_scenario(model, nodes, node, framework=framework, global_batch_size=batch, sequence_parallel=True)
    space = TrainingSpace(tensor_parallel_sizes=(tp,), pipeline_parallel_sizes=(1, 2), micro_batch_sizes=(1, 2))
    plans = [plan for plan in space.plans(base) if plan.chunks <= 4]
    few = PlanSearch(Evaluator(base), plans).run()
    every = PlanSearch(Evaluator(base), plans, exhaustive=True).run()
    assert [(one.plan, one.step_s) for one in few.best] == [(one.plan, one.step_s) for one in every.best[:10]]
    assert few.too_large.keys() <= every.too_large.keys()
    assert len(few.simulated) < len(every.simulated) or len(every.best) <= 10


def test_nothing_that_is_left_out_of_the_front_needs_much_less_memory_and_is_not_slower() -> None:
    base = training_scenario("llama-3.1-8b", 2, "dgx-h100", sequence_parallel=True)
    space = TrainingSpace(tensor_parallel_sizes=(2, 4), pipeline_parallel_sizes=(1, 2), micro_batch_sizes=(1,))
    plans = space.plans(base)
    found = PlanSearch(Evaluator(base), plans).run()
    every = PlanSearch(Evaluator(base), plans, exhaustive=True).run()
    rounding = 1 + 1e-9
    for one in every.best:
        if one.step_s < FRONT_STEP * found.best[0].step_s:
            no_slower = [other for other in found.front if other.step_s <= one.step_s * rounding]
            assert any(FRONT_BYTES * other.peak_bytes <= one.peak_bytes * rounding for other in no_slower)
    bytes_of = [one.peak_bytes for one in found.front]
    assert all(b < FRONT_BYTES * a for a, b in pairwise(bytes_of))


def test_two_processes_find_what_one_finds() -> None:
    base = training_scenario("gpt3-1.3b", 1)
    space = TrainingSpace(tensor_parallel_sizes=(1, 2), pipeline_parallel_sizes=(1, 2), micro_batch_sizes=(1, 2))
    one, two = (plan_training(base, space, workers=count) for count in (1, 2))
    assert [(g.plan, g.step_s) for g in one.found.best] == [(g.plan, g.step_s) for g in two.found.best]
    assert one.found.too_large == two.found.too_large


def test_the_winner_takes_as_long_as_a_run_of_its_scenario_says() -> None:
    found = plan_training(training_scenario("gpt3-1.3b", 1), SPACE, workers=1)
    result = run_training(found.best)
    assert result.summary["step_s"] == pytest.approx(found.winner.step_s, rel=1e-12)
    assert result.summary["memory"]["peak_bytes"] == pytest.approx(found.winner.peak_bytes, rel=1e-12)
    steps = [one.step_s for one in found.found.best]
    assert steps == sorted(steps)
    assert len(steps) == 10


def test_keys_that_the_scenario_gives_stay_unless_they_are_freed() -> None:
    base = training_scenario("gpt3-1.3b", 1, tensor_parallel_size=2, micro_batch_size=4, recompute="full")
    assert {(one.tp, one.micro_batch, one.recompute.name) for one in TrainingSpace().plans(base)} == {(2, 4, "full")}
    freed = TrainingSpace(free=frozenset({"recompute"})).plans(base)
    assert {one.recompute.name for one in freed} == {"none", "selective", "full"}
    assert {one.tp for one in freed} == {2}
    assert len({one.tp for one in TrainingSpace(free=frozenset({"all"})).plans(base)}) > 2


def test_a_key_that_cannot_be_freed_is_named() -> None:
    with pytest.raises(UnknownNameError, match="--free: unknown name 'recomputee'; did you mean 'recompute'"):
        TrainingSpace(free=frozenset({"recomputee"}))
    with pytest.raises(UnknownNameError, match="--schedules"):
        TrainingSpace(schedules=("1f1",))
    with pytest.raises(FleetcastError, match="has 8 GPUs a node; give a multiple"):
        TrainingSpace(gpus=(12,)).plans(training_scenario())


def test_all_plans_of_a_space_use_gpus_that_are_there_and_divide_the_batch() -> None:
    base = training_scenario("llama-3.1-8b", 3, global_batch_size=96)
    plans = TrainingSpace(schedules=("1f1b", "interleaved_1f1b", "zb_h1", "v_half")).plans(base)
    assert len(plans) == len(set(plans))
    for plan in plans:
        assert plan.used_gpus <= 24
        assert 96 % (plan.dp * plan.micro_batch) == 0
        more = next((n for n in range(plan.dp + 1, 25) if 96 % (n * plan.micro_batch) == 0), math.inf)
        assert plan.tp * plan.pp * more > 24


def test_where_nothing_fits_the_nearest_miss_is_named_with_what_would_help() -> None:
    with pytest.raises(ImpossibleError, match=r"none of [\d,]+ plans fits: the nearest, .* GB .* more GPUs"):
        plan_training(training_scenario("gpt3-175b", 1), SPACE, workers=1)


def test_a_space_without_plans_says_which_keys_are_in_the_way() -> None:
    with pytest.raises(ImpossibleError, match="tensor_parallel_size = 3 x"):
        plan_training(training_scenario("llama-3.1-8b", 1, tensor_parallel_size=3))
    with pytest.raises(ImpossibleError, match="is not divisible by micro_batch_size"):
        plan_training(training_scenario("llama-3.1-8b", 1, micro_batch_size=7))


def test_more_gpus_are_searched_together_and_the_fastest_wins() -> None:
    space = TrainingSpace(
        gpus=(8, 16), tensor_parallel_sizes=(1, 2), pipeline_parallel_sizes=(1,), micro_batch_sizes=(1,)
    )
    found = plan_training(training_scenario("gpt3-1.3b", 1), space, workers=1)
    assert {plan.gpus for plan in found.found.bounds} == {8, 16}
    assert found.winner.plan.gpus == 16
    assert found.best.cluster.nodes == 2
    assert any(one.plan.gpus == 8 for one in found.found.front)


def test_a_plan_as_written_is_compared_with_the_winner() -> None:
    base = training_scenario("gpt3-1.3b", 1, tensor_parallel_size=8, pipeline_parallel_size=1, recompute="full")
    found = plan_training(base, TrainingSpace(free=frozenset({"all"}), micro_batch_sizes=(1, 2)), workers=1)
    assert found.own is not None
    assert found.own.step_s == run_training(base).summary["step_s"]
    assert found.own.step_s >= found.winner.step_s
    assert plan_training(training_scenario("gpt3-1.3b", 1), SPACE, workers=1).own is None


def test_frameworks_with_pipelines_keep_gradients_whole_unless_asked() -> None:
    found = TrainingSpace().plans(training_scenario())
    assert {plan.sharding.name for plan in found if plan.pp == 1} == {"none", "zero1", "zero2", "zero3"}
    assert {plan.sharding.name for plan in found if plan.pp > 1} == {"none", "zero1"}
    asked = TrainingSpace(shardings=("zero2",)).plans(training_scenario())
    assert any(plan.pp > 1 and plan.sharding.name == "zero2" for plan in asked)
