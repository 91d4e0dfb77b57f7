import math
from pathlib import Path

import pandas as pd
import pytest

from hardware_models.errors import FleetcastError
from sim.identity import scenario_id
from sim.metrics import TRAINING_SUMMARY_METRICS
from sim.stored_run import StoredTraining, read_any_run, read_run
from sim.training.result import TrainingResult, run_training
from sim.training_scenario import TrainingScenario

TABLES = {
    "model": {"config": "gpt3-1.3b"},
    "cluster": {"node": "dgx-a100-80gb"},
    "training": {"global_batch_size": 16, "seq_length": 2048, "pipeline_parallel_size": 2, "train_tokens": 1e9},
    "energy": {"embodied": "bloom-2022"},
    "checkpoint": {"policy": "synchronous", "every": 100},
}


@pytest.fixture(scope="module")
def result() -> TrainingResult:
    return run_training(TrainingScenario.model_validate(TABLES))


def test_a_folder_of_a_training_step_reads_back(result: TrainingResult, tmp_path: Path) -> None:
    result.write(tmp_path / "run")
    kept = read_any_run(tmp_path / "run")
    assert isinstance(kept, StoredTraining)
    assert kept.scenario == result.scenario
    assert kept.summary["step_s"] == result.summary["step_s"]
    pd.testing.assert_frame_equal(kept.tasks, result.tasks, check_dtype=False)
    pd.testing.assert_frame_equal(kept.memory, result.memory, check_dtype=False)


def test_a_reader_of_serving_runs_refuses_one_of_training_in_a_sentence(result: TrainingResult, tmp_path: Path) -> None:
    result.write(tmp_path / "run")
    with pytest.raises(FleetcastError, match="is a training run; give one of serving"):
        read_run(tmp_path / "run")


def test_the_identity_of_a_plan_changes_with_its_keys_alone() -> None:
    one = TrainingScenario.model_validate(TABLES)
    assert scenario_id(one) == scenario_id(TrainingScenario.model_validate(TABLES))
    other = one.model_copy(update={"training": one.training.model_copy(update={"micro_batch_size": 2})})
    assert scenario_id(other) != scenario_id(one)


def test_the_intervals_of_rates_and_costs_follow_from_that_of_the_step(result: TrainingResult) -> None:
    summary = result.summary
    low, high = summary["interval_90"]["step_s"]
    assert low < summary["step_s"] < high
    tokens = summary["tokens_per_s"] * summary["step_s"]
    assert summary["interval_90"]["tokens_per_s"] == pytest.approx([tokens / high, tokens / low])
    for key, bars in summary["interval_90"].items():
        assert bars[0] < summary[key] < bars[1]


def test_every_metric_of_training_is_a_figure_of_the_summary(result: TrainingResult) -> None:
    ordinary = {key: metric for key, metric in TRAINING_SUMMARY_METRICS.items() if not key.startswith("offload.")}
    for key, metric in ordinary.items():
        value = metric.value(result.summary)
        assert math.isfinite(value), key
    shares = [metric for key, metric in TRAINING_SUMMARY_METRICS.items() if key.startswith("bound_by.")]
    assert sum(metric.value(result.summary) for metric in shares) == pytest.approx(1.0)
