"""Frontiers of training plans: from measured profiles as published, and from the hardware models."""

import pytest

from hardware_models import catalog
from hardware_models.errors import ImpossibleError
from policies.power.perseus_baselines import highest_clock
from sim.scenario_file import parse_any
from sim.study import run_study
from sim.training.clock_frontier import frontier_of, pipeline_of
from sim.training.deployment import TrainingDeployment, deploy_training
from sim.training_scenario import TrainingScenario

EMULATED = "power/perseus-emulation-2024"
PERCENTAGE_POINTS = 4.0


def deployment(tmp_path, **training) -> TrainingDeployment:
    tables = {
        "model": {"config": "gpt3-1.3b"},
        "cluster": {"node": "a100-80gb-pcie-4x", "nodes": 1},
        "training": {
            "framework": "megatron-lm-2021", "seq_length": 1024, "global_batch_size": 32, "micro_batch_size": 4,
            "pipeline_parallel_size": 4, "sharding": "none", "layers_per_stage": [6, 6, 7, 5], "check_memory": False,
            **training,
        },
    }  # fmt: skip
    scenario = parse_any(tables, "here", tmp_path)
    assert isinstance(scenario, TrainingScenario)
    return deploy_training(scenario)


def test_emulated_pipelines_save_what_the_paper_says_within_percentage_points() -> None:
    points = ("GPT-3 175B, A100", "GPT-3 175B, A40", "BLOOM-176B, A100")
    names = tuple(f"{where}, 12 micro-batches: saved, Perseus" for where in points)
    rows = list(run_study(EMULATED, names))
    assert len(rows) == len(names)
    assert all(abs(row.simulated - row.published_low) < PERCENTAGE_POINTS for row in rows)


def test_a_plan_without_a_profile_is_priced_and_its_shortest_iteration_is_that_of_its_passes(tmp_path) -> None:
    plan = deployment(tmp_path)
    found = frontier_of(plan)
    highest = highest_clock(found.pipeline)
    first = plan.stages[0]
    assert found.pipeline.passes["forward", 0].fastest.seconds == pytest.approx(first.forward.seconds, rel=1e-9)
    assert found.pipeline.passes["backward", 0].fastest.seconds == pytest.approx(first.backward.seconds, rel=1e-9)
    assert found.shortest_s == pytest.approx(highest.iteration_s, rel=1e-7)
    mean_w = highest.energy_j / highest.iteration_s / 4
    assert found.pipeline.blocking_w < mean_w <= plan.gpu.tdp_w
    assert 0.02 < found.run().saved_fraction(highest) < 0.3
    assert found.cheapest_s > found.shortest_s


def test_halves_of_a_backward_have_clocks_of_their_own(tmp_path) -> None:
    found = pipeline_of(deployment(tmp_path, schedule="zb_h1"))
    assert {slot.work for slot in found.slots} == {"forward", "backward_input", "backward_weight"}


def test_profiles_of_other_pipelines_and_schedules_that_meet_are_refused(tmp_path) -> None:
    name = "gpt3-175b-a100-80gb-sxm"
    with pytest.raises(ImpossibleError, match="has 8 stages, this pipeline 4"):
        pipeline_of(deployment(tmp_path, stage_profile=name))
    with pytest.raises(ImpossibleError, match="neither run in pairs nor meet"):
        pipeline_of(deployment(tmp_path, schedule="vocab_1", layers_per_stage=None))
    for one in catalog.names("stage_profile"):
        spec = catalog.stage_profile(one)
        assert spec.settings == tuple(sorted(spec.settings, reverse=True))
