"""Plans on clusters whose links are unequal, and with layers balanced over stages."""

from dataclasses import replace
from typing import Any

import pytest
from small_plans import training_scenario

from sim.plan.training.balanced import try_balanced
from sim.plan.training.deployer import Deployer
from sim.plan.training.evaluator import MAPPED, Evaluator
from sim.plan.training.flags import megatron_flags
from sim.plan.training.plan import Choice
from sim.plan.training.planner import plan_training
from sim.plan.training.search import PlanSearch
from sim.plan.training.space import TrainingSpace
from sim.plan.training.table import every_plan, training_plan_json
from sim.training.result import run_training

SLOW = [{"nodes": [0, 1], "slowdown": 5.0}]
SPACE = TrainingSpace(tensor_parallel_sizes=(8,), pipeline_parallel_sizes=(2, 4), micro_batch_sizes=(2,))


def on_slow_links(**keys: Any) -> Any:
    base = training_scenario("gpt3-1.3b", 4, recompute="none", schedule="1f1b", global_batch_size=32, **keys)
    cluster = type(base.cluster).model_validate(base.cluster.model_dump() | {"slow_links": SLOW})
    return base.model_copy(update={"cluster": cluster})


def test_the_best_plans_on_unequal_links_are_those_of_an_exhaustive_search_with_nodes_placed() -> None:
    base = on_slow_links()
    found = plan_training(base, SPACE, workers=1, top=3)
    every = plan_training(base, SPACE, workers=1, top=3, exhaustive=True)
    assert [(one.plan, one.step_s) for one in found.found.best] == [
        (one.plan, one.step_s) for one in every.found.best[:3]
    ]
    winner = found.winner
    assert winner.level == MAPPED
    assert winner.mapping is not None
    assert winner.mapping.by == "exact"
    assert winner.step_s < winner.own_order_s
    assert run_training(found.best).summary["step_s"] == pytest.approx(winner.step_s, rel=1e-12)
    answer = training_plan_json(found)
    assert answer["mapping"]["nodes"] == list(winner.mapping.order)
    assert {row["known_by"] for row in answer["best"]} == {"simulated"}
    assert any("exact placed the nodes of the answer" in note for note in found.notes)


def test_a_mapping_that_is_given_stays_unless_it_is_freed() -> None:
    base = on_slow_links(node_mapping="identity")
    kept = plan_training(base, SPACE, workers=1, top=1)
    freed = plan_training(base, TrainingSpace(
        free=frozenset({"node_mapping"}), tensor_parallel_sizes=(8,), pipeline_parallel_sizes=(2, 4),
        micro_batch_sizes=(2,)), workers=1, top=1)  # fmt: skip
    assert kept.winner.mapping is not None
    assert kept.winner.mapping.by == "identity"
    assert "node_mapping" in kept.fixed
    assert "node_mapping" not in freed.fixed
    assert freed.winner.step_s < kept.winner.step_s


def test_a_heavy_head_is_balanced_away_and_megatron_is_told_how() -> None:
    base = training_scenario("gemma-2b", 1, recompute="none", schedule="1f1b", sharding="zero1")
    space = TrainingSpace(tensor_parallel_sizes=(1,), pipeline_parallel_sizes=(2,), micro_batch_sizes=(1, 2))
    found = plan_training(base, space, workers=1)
    assert found.winner.plan.split == "balanced"
    assert found.plans == len(every_plan(found))
    counts = list(found.deployment.stage_layers)
    assert sum(counts) == 18
    assert counts[0] > counts[1]
    answer = training_plan_json(found)
    assert f'--pipeline-model-parallel-layout "E,t*{counts[0]}|t*{counts[1]},L"' in answer["megatron_flags"]
    assert any("the answer's is one" in note for note in found.notes)
    chunked = replace(found.winner.plan, schedule=Choice("interleaved_1f1b", (("chunks", 3),)))
    flags, notes = megatron_flags(chunked, Deployer(base).deploy(chunked))
    assert not any("virtual" in flag for flag in flags)  # the layout says how many chunks there are
    assert sum(flag.count("|") for flag in flags) == 5
    assert not any("no flag" in note for note in notes)
    assert run_training(found.best).summary["step_s"] == pytest.approx(found.winner.step_s, rel=1e-12)
    even = next(one for one in found.found.simulated if one.plan.split == "even")
    assert found.winner.step_s < even.step_s


def test_stages_that_are_balanced_already_are_not_tried_again() -> None:
    evaluator = Evaluator(training_scenario("gpt3-1.3b", 1, recompute="none", schedule="1f1b"))
    space = TrainingSpace(tensor_parallel_sizes=(2,), pipeline_parallel_sizes=(1,), micro_batch_sizes=(1,))
    found = PlanSearch(evaluator, space.plans(evaluator.base)).run()
    before = list(found.best)
    assert try_balanced(evaluator, found, 10) == 0
    assert found.best == before
