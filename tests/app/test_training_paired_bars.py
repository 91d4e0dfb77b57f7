"""Errors that two steps share cancel in their difference; those of two calibrations do not."""

from math import exp, hypot, log
from typing import Any

import pytest

from app.compare import RunFolder, beyond_error_bars, comparison_lines, paired_interval, paired_sentence
from hardware_models.intervals import NORMAL_90
from sim.training.result import run_training
from sim.training.shared_errors import change_sigma, shared_factors
from sim.training_scenario import TrainingScenario


def summary(node: str = "dgx-a100-80gb", **training: Any) -> dict[str, Any]:
    keys = {"seq_length": 2048, "global_batch_size": 64, "check_memory": False}
    tables = {"model": {"config": "gpt3-1.3b"}, "cluster": {"node": node}, "training": keys | training}
    return run_training(TrainingScenario.model_validate(tables)).summary


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return summary()


def test_a_step_against_itself_is_sure(base: dict[str, Any]) -> None:
    assert change_sigma(base, base) == 0.0
    assert paired_interval(base, base, "step_s") == (1.0, 1.0)
    assert beyond_error_bars(base, base, "step_s") is False


def test_of_one_gpu_a_change_is_surer_than_the_runs_own_bars(base: dict[str, Any]) -> None:
    other = summary(recompute="selective")
    assert {"matrix products", "attention", "passes", "software"} <= set(shared_factors(base, other))
    low, high = base["interval_90"]["step_s"]
    ends = paired_interval(base, other, "step_s")
    assert ends is not None
    assert ends[1] / ends[0] < high / low
    rate = paired_interval(base, other, "tokens_per_s")
    assert rate is not None
    assert rate[0] == pytest.approx(1 / ends[1])
    assert beyond_error_bars(base, other, "step_s") is (ends[0] > 1.0)
    assert paired_interval(base, other, "memory.peak_bytes") is None


def test_errors_of_two_gpus_add_up_by_squares(base: dict[str, Any]) -> None:
    other = summary(node="dgx-h100")
    assert shared_factors(base, other) == ["software"]
    own = [log(one["interval_90"]["step_s"][1] / one["step_s"]) / NORMAL_90 for one in (base, other)]
    software = [one["unsure"]["software"] / one["step_s"] for one in (base, other)]
    wanted = hypot(*own) ** 2 - hypot(*software) ** 2 + (software[1] - software[0]) ** 2
    assert change_sigma(base, other) == pytest.approx(wanted**0.5)
    ends = paired_interval(base, other, "step_s")
    assert ends is not None
    assert ends[1] / ends[0] == pytest.approx(exp(2 * NORMAL_90 * wanted**0.5))


def test_other_kernels_share_no_error(base: dict[str, Any]) -> None:
    assert "attention" not in shared_factors(base, summary(attention="standard"))


def test_a_comparison_says_what_cancels(base: dict[str, Any]) -> None:
    other = summary(micro_batch_size=2)
    runs = [RunFolder(name, found, {}) for name, found in (("a", base), ("b", other))]
    assert any("errors that both share cancel (matrix products, attention" in line for line in comparison_lines(runs))
    old = {key: value for key, value in base.items() if key != "calibrations"}
    assert paired_sentence(old, other) == ""
    assert beyond_error_bars(old, other, "step_s") is False
