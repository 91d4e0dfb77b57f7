"""Steps of very many micro-batches are evaluated without walking all of them, and no less exactly."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_plans import plans, training_scenario

from hardware_models.errors import ImpossibleError
from sim.graph.order import compile_graph
from sim.plan.training.evaluator import Evaluator, Paths
from sim.plan.training.plan import TrainingPlan
from sim.plan.training.space import TrainingSpace
from sim.plan.training.steady import TICK_S, repeats
from sim.plan.training.structure import StepStructure
from sim.training.deployment import TrainingDeployment, deploy_training
from sim.training.pricing import Spent
from sim.training.stage import StageWork
from sim.training.step_graph import StepGraphBuilder

STAGE = StageWork(
    forward=Spent(compute_s=1.0), backward_input=Spent(compute_s=1.0), backward_weight=Spent(compute_s=1.0),
    recompute=Spent(), activation_bytes=1.0, weight_input_bytes=1.0, working_bytes=0.0, parameters=1e6,
)  # fmt: skip


def longest_s(deployment: TrainingDeployment) -> float:
    graph = StepGraphBuilder(deployment).build()
    return max(compile_graph(graph).longest_paths(graph.duration_s))


@given(
    plan=plans(),
    batch=st.sampled_from([192, 256, 480, 512]),
    framework=st.sampled_from(["megatron-lm-2022", "megatron-core-0.8"]),
    data=st.data(),
)
@settings(max_examples=30, deadline=None)
def test_skipping_what_repeats_changes_no_step(
    plan: TrainingPlan, batch: int, framework: str, data: st.DataObject
) -> None:
    """With stages that all take different times, too."""
    evaluator = Evaluator(training_scenario("gpt3-1.3b", framework=framework, global_batch_size=batch))
    try:
        deployment = evaluator.deployer.deploy(plan)
    except ImpossibleError:
        assume(False)
        raise
    if data.draw(st.booleans()):
        factors = data.draw(st.lists(st.floats(0.5, 2.0), min_size=16, max_size=16))
        stages = tuple(
            replace(
                work, forward=work.forward.times(factors[at % 16]), backward_input=work.forward.times(factors[-at % 16])
            )
            for at, work in enumerate(deployment.stages)
        )
        deployment = replace(deployment, stages=stages)
    assert Paths().step_s(deployment) == pytest.approx(longest_s(deployment), rel=1e-11)


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_pipeline_of_a_thousand_micro_batches_takes_as_long_as_its_closed_form_says(chunks: int) -> None:
    """(m v + p - 1)(F + B) where stages are alike, sends free, and nothing else takes time."""
    name = {"name": "interleaved_1f1b", "chunks": 2} if chunks == 2 else "1f1b"
    base = training_scenario(
        "gpt3-1.3b", global_batch_size=1024, pipeline_parallel_size=8, tensor_parallel_size=2, schedule=name,
        sharding="none",
    )  # fmt: skip
    deployment = deploy_training(base)
    framework = deployment.framework.model_copy(
        update={"host_s_per_step": 0.0, "optimizer_bytes_per_parameter": 1e-30, "launch_s": 0.0}
    )
    alike = tuple(replace(STAGE, tied_bytes=0.0) for _ in deployment.stages)
    deployment = replace(deployment, stages=alike, framework=framework, pipeline_fabric=None)
    assert repeats(deployment) is not None
    step_s = Paths().step_s(deployment)
    ideal_s = (1024 * chunks + 8 - 1) * 3.0
    assert ideal_s <= step_s <= ideal_s + 1e-3  # the optimizer's launch is left


def test_a_structure_is_built_once_for_plans_with_the_same_tasks() -> None:
    evaluator = Evaluator(training_scenario("gpt3-1.3b", global_batch_size=512))
    space = TrainingSpace(
        tensor_parallel_sizes=(2,), pipeline_parallel_sizes=(4,), micro_batch_sizes=(1,), schedules=("1f1b",),
        shardings=("zero1",),
    )  # fmt: skip
    found = space.plans(evaluator.deployer.base)
    paths, built = Paths(), []
    original = StepStructure.__init__

    def counted(self: StepStructure, builder: StepGraphBuilder) -> None:
        built.append(builder)
        original(self, builder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepStructure, "__init__", counted)
        for plan in found:
            deployment = evaluator.deployer.deploy(plan)
            assert paths.step_s(deployment) == pytest.approx(longest_s(deployment), rel=1e-11)
    assert len(found) == 6
    assert len(built) == 1


def test_ticks_are_far_below_what_a_step_is_known_to() -> None:
    assert TICK_S < 1e-13
