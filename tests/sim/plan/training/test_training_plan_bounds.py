"""Bounds of training plans are bounds, deployments are those of the scenario, and peaks are those of the graph."""

import re
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_plans import MODELS, plans, training_scenario

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import Interleaved
from sim.graph.order import compile_graph
from sim.plan.training.alive import alive
from sim.plan.training.bounds import Bounds
from sim.plan.training.deployer import Deployer
from sim.plan.training.evaluator import PASSES, SIMULATED, Evaluator, Grade, peak_in_order_bytes
from sim.plan.training.plan import Choice, TrainingPlan
from sim.training.deployment import TrainingDeployment, deploy_training
from sim.training.simulate import simulate_deployment
from sim.training.step_graph import StepGraphBuilder

FRAMEWORKS = st.sampled_from(["megatron-lm-2022", "megatron-core-0.8"])
SCHEDULES = ("1f1b", "interleaved_1f1b", "gpipe", "breadth_first")
KINDS = st.sampled_from(MODELS)


def deployed(evaluator: Evaluator, plan: TrainingPlan) -> TrainingDeployment:
    try:
        return evaluator.deployer.deploy(plan)
    except ImpossibleError:
        assume(False)
        raise


@given(plan=plans(SCHEDULES), framework=FRAMEWORKS, model=KINDS)
@settings(max_examples=40, deadline=None)
def test_no_level_says_more_seconds_than_the_next(plan: TrainingPlan, framework: str, model: str) -> None:
    evaluator = Evaluator(training_scenario(model, framework=framework))
    deployed(evaluator, plan)
    bound = evaluator.bound(plan)
    grades = [Grade(plan, PASSES, bound.step_s, bound.peak_bytes)]
    while grades[-1].level < SIMULATED:
        grades.append(evaluator.next(Grade(plan, grades[-1].level, grades[-1].step_s, grades[-1].peak_bytes)))
    seconds = [grade.step_s for grade in grades]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0.3 * seconds[-1]
    for grade in grades[:-1]:
        assert grade.peak_bytes <= grades[-1].peak_bytes


@given(plan=plans(SCHEDULES), framework=FRAMEWORKS, model=KINDS)
@settings(max_examples=40, deadline=None)
def test_each_bound_alone_is_below_the_simulated_step(plan: TrainingPlan, framework: str, model: str) -> None:
    evaluator = Evaluator(training_scenario(model, framework=framework))
    deployment = deployed(evaluator, plan)
    evaluator.bound(plan)
    simulated = evaluator.next(Grade(plan, SIMULATED - 1, 0.0, 0.0)).step_s
    for level in range(SIMULATED - 1):
        assert evaluator.next(Grade(plan, level, 0.0, 0.0)).step_s <= simulated
    graph = StepGraphBuilder(deployment).build()
    path_s = max(compile_graph(graph).longest_paths(graph.duration_s))
    assert evaluator.paths.step_s(deployment) == pytest.approx(path_s, rel=1e-10)


@given(plan=plans(SCHEDULES), framework=FRAMEWORKS, model=KINDS)
@settings(max_examples=30, deadline=None)
def test_peaks_known_from_the_schedule_are_those_of_the_simulated_step(
    plan: TrainingPlan, framework: str, model: str
) -> None:
    evaluator = Evaluator(training_scenario(model, framework=framework))
    deployment = deployed(evaluator, plan)
    memory = simulate_deployment(deployment).memory
    assert peak_in_order_bytes(deployment) == pytest.approx(memory.peaks[memory.worst].used_bytes, rel=1e-9)
    assert evaluator.bound(plan).peak_bytes <= memory.peaks[memory.worst].used_bytes


@given(plan=plans((*SCHEDULES, "zb_h1", "v_half")), model=KINDS)
@settings(max_examples=30, deadline=None)
def test_a_plan_is_deployed_as_its_scenario_is(plan: TrainingPlan, model: str) -> None:
    base = training_scenario(model)
    try:
        wanted = deploy_training(plan.scenario(base))
    except ImpossibleError as error:
        with pytest.raises(ImpossibleError, match=re.escape(str(error))):
            Deployer(base).deploy(plan)
        return
    found = Deployer(base).deploy(plan)
    for one in fields(TrainingDeployment):
        if one.name != "pricer":
            assert getattr(found, one.name) == getattr(wanted, one.name), one.name


@pytest.mark.parametrize(
    ("model", "changes", "keys"),
    [
        ("llama-3.2-1b", {"tp": 4, "dp": 4, "schedule": Choice("gpipe")}, {"overlap_p2p_communication": False}),
        ("mixtral-8x7b", {"tp": 4, "dp": 4, "schedule": Choice("interleaved_1f1b", (("chunks", 4),))}, {}),
        ("mixtral-8x7b", {"tp": 1, "dp": 16, "ep": 4}, {}),
        ("mixtral-8x7b", {"tp": 1, "dp": 16}, {"seq_length": 1024}),
    ],
)
@pytest.mark.parametrize("sharding", ["zero1", "zero2", "zero3"])
def test_exchanges_that_take_longer_than_the_work_beside_them_break_no_bound(
    sharding: str, model: str, changes: dict[str, Any], keys: dict[str, Any]
) -> None:
    evaluator = Evaluator(training_scenario(model, 4, **keys))
    plan = TrainingPlan(**{
        "nodes": 4, "gpus": 32, "pp": 2, "cp": 1, "ep": 1, "micro_batch": 2, "schedule": Choice("1f1b"),
        "recompute": Choice("none"), "sharding": Choice(sharding), "split": "even",
        "sequence_parallel": changes["tp"] > 1, **changes,
    })  # fmt: skip
    evaluator.deployer.deploy(plan)
    levels = [evaluator.next(Grade(plan, level, 0.0, 0.0)) for level in range(SIMULATED)]
    assert max(one.step_s for one in levels[:-1]) <= levels[-1].step_s
    assert levels[0].step_s > 0.3 * levels[-1].step_s
    assert levels[0].peak_bytes == pytest.approx(levels[-1].peak_bytes, rel=2e-9)


@given(plan=plans(), framework=FRAMEWORKS)
@settings(max_examples=25, deadline=None)
def test_without_a_pipeline_the_bound_is_the_step(plan: TrainingPlan, framework: str) -> None:
    """A closed form: passes, and what exchanges in buckets leave exposed at both ends."""
    alone = replace(plan, pp=1, dp=16 // plan.tp, schedule=Choice("1f1b"))
    assume(alone.sharding.name in ("none", "zero1"))
    evaluator = Evaluator(training_scenario(framework=framework))
    deployed(evaluator, alone)
    evaluator.bound(alone)
    bound, simulated = (evaluator.next(Grade(alone, level, 0.0, 0.0)) for level in (PASSES, SIMULATED - 1))
    assert bound.step_s == pytest.approx(simulated.step_s, rel=2e-9)


@given(plan=plans(("zb_h1", "zb_h2", "v_half", "v_min", "zb_v")))
@settings(max_examples=15, deadline=None)
def test_schedules_with_split_backwards_have_bounds_too(plan: TrainingPlan) -> None:
    evaluator = Evaluator(training_scenario())
    deployed(evaluator, plan)
    bound = evaluator.bound(plan)
    simulated = evaluator.next(Grade(plan, SIMULATED - 1, 0.0, 0.0))
    with_exchanges = evaluator.next(Grade(plan, PASSES, 0.0, 0.0))
    assert bound.step_s <= simulated.step_s
    assert with_exchanges.step_s <= simulated.step_s
    assert bound.peak_bytes <= simulated.peak_bytes


@given(devices=st.integers(2, 5), chunks=st.integers(2, 4), rounds=st.integers(3, 8))
@settings(max_examples=20, deadline=None)
def test_an_interleaved_pipeline_is_as_full_after_three_rounds_as_ever(devices: int, chunks: int, rounds: int) -> None:
    rng = np.random.default_rng(devices * 100 + chunks)
    held, working = rng.uniform(1, 2, devices * chunks), rng.uniform(0, 3, devices * chunks)
    schedule, many = Interleaved(chunks=chunks), rounds * devices
    peaks = []
    for program in schedule.programs(devices, many):
        now, most = 0.0, 0.0
        for slot in program:
            if slot.work == "forward":
                now += held[slot.stage]
            else:
                most = max(most, now + working[slot.stage])
                now -= held[slot.stage]
        peaks.append(most)
    np.testing.assert_allclose(alive(schedule, devices, many).peak_bytes(held, working), peaks, rtol=1e-12)


def test_stages_of_one_and_two_layers_price_all_others() -> None:
    base = training_scenario("llama-3.1-8b", framework="megatron-core-0.8")
    bounds, deployer = Bounds(Deployer(base)), Deployer(base)
    for recompute in ("none", "selective", "full"):
        one = TrainingPlan(
            nodes=2, gpus=16, tp=2, pp=4, dp=2, cp=1, ep=1, micro_batch=1, schedule=Choice("1f1b"),
            recompute=Choice(recompute), sharding=Choice("zero1"), sequence_parallel=True, split="even",
        )  # fmt: skip
        columns, stages = bounds.shape(one).columns, deployer.deploy(one).stages
        np.testing.assert_allclose(columns.forward_s, [work.forward.seconds for work in stages], rtol=1e-12)
        np.testing.assert_allclose(columns.backward_s, [work.backward.seconds for work in stages], rtol=1e-12)
        np.testing.assert_allclose(columns.activation_bytes, [work.activation_bytes for work in stages], rtol=1e-12)
        np.testing.assert_allclose(columns.working_bytes, [work.working_bytes for work in stages], rtol=1e-12)
        np.testing.assert_allclose(columns.parameters, [work.parameters for work in stages], rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "node", "keys", "changes"),
    [
        (  # a host that is late with every layer, and not with the head
            "bert-large", "dgx-h100", {"framework": "megascale-2024"},
            {"tp": 4, "pp": 2, "dp": 2, "schedule": Choice("gpipe"), "recompute": Choice("full")},
        ),
        (  # pairs of passes, which hide exchanges among experts
            "qwen3-30b-a3b", "dgx-h100", {"overlap_moe_expert_parallel_comm": True},
            {"tp": 1, "pp": 1, "dp": 16, "ep": 16, "sharding": Choice("zero2")},
        ),
        (  # weights gathered a matrix at a time
            "llama-3.1-8b", "dgx-a100-80gb", {"framework": "deepspeed-2023"},
            {"tp": 2, "pp": 1, "dp": 8, "micro_batch": 2, "sharding": Choice("zero3")},
        ),
    ],
)  # fmt: skip
def test_what_hides_seconds_does_not_lift_a_bound_above_the_step(
    model: str, node: str, keys: dict[str, Any], changes: dict[str, Any]
) -> None:
    evaluator = Evaluator(training_scenario(model, node=node, **keys))
    plan = replace(
        TrainingPlan(
            nodes=2, gpus=16, tp=1, pp=1, dp=16, cp=1, ep=1, micro_batch=1, schedule=Choice("1f1b"),
            recompute=Choice("none"), sharding=Choice("zero1"), sequence_parallel=changes["tp"] > 1, split="even",
        ),
        **changes,
    )  # fmt: skip
    simulated = evaluator.next(Grade(plan, SIMULATED - 1, 0.0, 0.0)).step_s
    assert evaluator.bound(plan).step_s <= simulated
    assert evaluator.next(Grade(plan, PASSES, 0.0, 0.0)).step_s <= simulated
