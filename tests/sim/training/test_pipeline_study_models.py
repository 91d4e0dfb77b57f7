"""Models and figures of the pipeline studies: parameters as the names say, MFU and memory by their definitions."""

import pytest

from sim.training.result import run_training
from sim.training.study_figures import TRAINING_FIGURES
from sim.training_scenario import TrainingScenario
from workloads.models.catalog import model
from workloads.models.counts import parameters


@pytest.mark.parametrize(
    "name",
    [
        *(f"zero-bubble-{size}" for size in ("1.5b", "6.2b", "14.6b", "28.3b")),
        *(f"pipeoffload-{size}" for size in ("10.5b", "18.1b", "42.9b")),
    ],
)
def test_a_vocabulary_of_32000_makes_the_parameters_of_the_name(name):
    stated = float(name.rpartition("-")[2].removesuffix("b"))
    architecture = model(name)
    counted = parameters(architecture) - architecture.learned_positions * architecture.hidden_size
    assert round(counted / 1e9, 1) == stated


def plan(**training: object) -> TrainingScenario:
    keys = {"global_batch_size": 8, "seq_length": 2048, "pipeline_parallel_size": 2, "check_memory": False}
    return TrainingScenario.model_validate(
        {
            "model": {"config": "gpt3-1.3b"},
            "cluster": {"node": "dgx-a100-80gb", "nodes": 1},
            "training": keys | {"data_parallel_size": 1} | training,
        }
    )


def test_mfu_without_the_masked_half_is_less_by_half_of_attention():
    scenario = plan()
    whole = run_training(scenario).summary["mfu"]
    causal = TRAINING_FIGURES["causal_mfu"].value(scenario)
    width, layers, rows = 2048, 24, 50304
    matrices = 6 * (12 * layers * width**2 + rows * width)
    attention = 12 * layers * width * 2048
    assert causal / whole == pytest.approx((matrices + attention / 2) / (matrices + attention), rel=1e-3)


def test_memory_that_comes_and_goes_is_the_peak_less_what_is_held():
    scenario = plan()
    run = run_training(scenario).run
    passing = TRAINING_FIGURES["passing_bytes"].value(scenario)
    held = {"weights", "gradients", "optimizer", "workspace"}
    rest = [sum(size for owner, size in peak.owners.items() if owner not in held) for peak in run.memory.peaks]
    assert passing == pytest.approx(max(rest))
