"""Plans that cannot be are refused in one sentence that names key, value and remedy."""

from pathlib import Path
from typing import Any

import pytest

from hardware_models.errors import DoesNotFitError, FleetcastError, ImpossibleError
from sim.scenario_file import parse_any
from sim.training.deployment import deploy_training
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario


def parse(nodes: int = 2, model: str = "gpt3-1.3b", **training: Any) -> TrainingScenario:
    tables = {
        "model": {"config": model},
        "cluster": {"node": "dgx-a100-80gb", "nodes": nodes},
        "training": {"seq_length": 2048, "global_batch_size": 64} | training,
    }
    parsed = parse_any(tables, "plan.toml", Path())
    assert isinstance(parsed, TrainingScenario)
    return parsed


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (
            {"tensor_parallel_size": 3, "data_parallel_size": 1},
            r"tensor_parallel_size = 3: does not divide the .* heads",
        ),
        (
            {"pipeline_parallel_size": 16, "schedule": {"name": "interleaved_1f1b", "chunks": 2}},
            "more stages than the 24",
        ),
        ({"expert_parallel_size": 2}, "expert_parallel_size = 2: does not divide the 1 expert of"),
        ({"global_batch_size": 60}, r"global_batch_size = 60: is not divisible by micro_batch_size = 1 x 16"),
        ({"tensor_parallel_size": 32}, "need 32 GPUs; cluster.nodes = 2 has 16"),
        ({"pipeline_parallel_size": 3}, "3 does not divide the cluster's 16 GPUs"),
        ({"seq_length": 2047, "tensor_parallel_size": 2}, "seq_length = 2047: is not divisible by"),
    ],
)
def test_wrong_plans_are_refused_in_a_sentence(training: dict[str, Any], said: str) -> None:
    with pytest.raises(ImpossibleError, match=said):
        deploy_training(parse(**training))


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"micro_batchsize": 2}, "unknown key 'training.micro_batchsize'; did you mean 'training.micro_batch_size'"),
        ({"slow_gpus": [{"gpu": 3, "slowdown": 2}]}, "unknown key 'training.slow_gpus.0.gpu'; known keys: replica,"),
        ({"precision": "int8"}, "training.precision = 'int8'"),
        ({"global_batch_size": 0}, "training.global_batch_size = 0: give at least 1"),
        ({"schedule": 3}, 'training.schedule = 3: give a table, { name = "..." }'),
    ],
)
def test_wrong_keys_are_refused_in_a_sentence(training: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetcastError) as error:
        parse(**training)
    assert said in str(error.value)
    assert str(error.value).startswith("plan.toml: ")


@pytest.mark.parametrize(
    ("key", "kind"), [("schedule", "schedule"), ("sharding", "sharding"), ("recompute", "recompute")]
)
def test_unknown_policies_are_named_with_what_is_known(key: str, kind: str) -> None:
    with pytest.raises(FleetcastError, match=f"training.{kind}.name"):
        deploy_training(parse(**{key: "nonesuch"}))


def test_a_plan_beyond_memory_is_refused_with_the_moment_and_the_largest_owners() -> None:
    with pytest.raises(DoesNotFitError, match=r"stage 0 holds [\d.]+ GB after .* s \(optimizer .* GB, .*\)"):
        run_training(parse(model="gpt3-175b", tensor_parallel_size=8, sharding="none", data_parallel_size=1))


def test_memory_can_be_left_unchecked() -> None:
    result = run_training(
        parse(model="gpt3-175b", tensor_parallel_size=8, sharding="none", data_parallel_size=1, check_memory=False)
    )
    assert not result.summary["memory"]["fits"]
    assert any("does not fit" in note for note in result.summary["notes"])
