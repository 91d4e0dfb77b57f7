"""A small training step that tests of its reports and pictures share."""

from functools import cache
from typing import Any

from sim.training.result import TrainingResult, run_training
from sim.training_scenario import TrainingScenario


def plan(**training: Any) -> TrainingScenario:
    """GPT-3 1.3B on 16 A100s in a pipeline of four stages."""
    keys = {
        "framework": "megatron-lm-2022",
        "seq_length": 2048,
        "global_batch_size": 64,
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 4,
    }
    return TrainingScenario.model_validate(
        {
            "name": "a small step",
            "model": {"config": "gpt3-1.3b"},
            "cluster": {"node": "dgx-a100-80gb", "nodes": 2},
            "training": keys | training,
        }
    )


@cache
def step() -> TrainingResult:
    """Its run; not to be changed."""
    return run_training(plan())
