"""Studies of training: what they may measure, and how near published steps, layers and memory come out."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.study import Row, load_study, run_study, study_names
from sim.study_scenario import point_scenario, reads_as
from sim.training.result import run_training
from sim.training.study_figures import TRAINING_FIGURES
from sim.training_scenario import TrainingScenario

SCENARIO = """
title = "a study"
paper = "none"
[scenario.model]
config = "gpt3-1.3b"
[scenario.cluster]
node = "dgx-a100-80gb"
[scenario.training]
framework = "megatron-lm-2022"
seq_length = 2048
global_batch_size = 16
pipeline_parallel_size = 2
"""


def study(folder: Path, *points: str) -> str:
    """The path of a study file with these points, named a, b, ..."""
    named = [f'[[point]]\nname = "{chr(97 + i)}"\n{text}\n' for i, text in enumerate(points)]
    (folder / "s.toml").write_text(SCENARIO + "".join(named))
    return str(folder / "s.toml")


def plan(**training: object) -> TrainingScenario:
    keys = {"framework": "megatron-lm-2022", "seq_length": 2048, "global_batch_size": 16, "pipeline_parallel_size": 2}
    tables = {
        "model": {"config": "gpt3-1.3b"},
        "cluster": {"node": "dgx-a100-80gb"},
        "training": keys | training,
    }
    return TrainingScenario.model_validate(tables)


def figure(name: str, **training: object) -> float:
    return TRAINING_FIGURES[name].value(plan(**training))


def errors(name: str, *points: str) -> dict[str, float]:
    return {row.point: row.error_fraction for row in run_study(name, points) if not math.isnan(row.published_low)}


def test_a_training_study_measures_what_its_summary_holds_in_the_unit_in_which_reports_show_it(tmp_path: Path) -> None:
    metric = 'metric = "model_flop_per_s_per_gpu"\npublished = 1\nsource = "s"'
    path = study(tmp_path, f'{metric}\nunit = "FLOP/s"', f'{metric}\nunit = "TFLOP/s"', 'metric = "mfu"\nunit = "%"')
    stored, shown, share = run_study(path)
    assert stored.simulated == pytest.approx(shown.simulated * 1e12, rel=1e-12)
    assert share.simulated == pytest.approx(100.0 * stored.simulated / 312e12, rel=1e-12)


def test_a_ratio_of_two_points_has_no_unit_to_turn(tmp_path: Path) -> None:
    metric = 'metric = "model_flop_per_s_per_gpu"\nunit = "TFLOP/s"'
    _, ratio = run_study(
        study(tmp_path, metric, f'{metric}\nbaseline = "a"\nset = {{ "training.recompute" = "full" }}')
    )
    assert 0.6 < ratio.simulated < 0.9  # a forward more: three quarters, and a little for what is no product


def test_a_unit_that_the_metric_has_not_is_refused_at_load(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match=r"point 'a': unit = 'GiB': give state_bytes in 'GB' or 'bytes'"):
        load_study(study(tmp_path, 'metric = "state_bytes"\npublished = 1.0\nunit = "GiB"'))


def test_metrics_of_serving_are_refused_in_a_training_study(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"point 'a': metric: unknown name 'ttft_s\.p50'"):
        load_study(study(tmp_path, 'metric = "ttft_s.p50"'))
    with pytest.raises(FleetcastError, match="'step' and 'limits' belong to serving"):
        load_study(study(tmp_path, 'metric = "step_s"\nlimits = { "ttft_s.p50" = 1.0 }'))


def test_metrics_of_training_are_refused_in_a_serving_study() -> None:
    serving = load_study("serving/tokenweave-prefill")
    assert not serving.of_training
    assert load_study("training/korthikanti-2022").of_training


def test_a_layer_computed_again_takes_its_forward_longer_in_the_backward() -> None:
    forward, backward = figure("layer_forward_s"), figure("layer_backward_s")
    again = figure("layer_backward_s", recompute="full")
    assert again == pytest.approx(forward + backward, rel=0.03)  # at a clock a little lower or higher


def test_state_is_eighteen_bytes_a_parameter_without_sharding_and_less_with_it() -> None:
    whole, shared = figure("state_bytes", sharding="none"), figure("state_bytes", sharding="zero1")
    parameters = whole / 18.0  # 16-bit weight, fp32 gradient, fp32 weight and two moments
    assert 0.6e9 < parameters < 0.9e9  # half of 1.3 billion, and the token table
    assert shared == pytest.approx(parameters * (6.0 + 12.0 / 4.0), rel=1e-9)


def test_sequence_parallelism_and_selective_recomputation_each_keep_less() -> None:
    cut = {"tensor_parallel_size": 4, "attention": "standard", "pipeline_parallel_size": 1}
    whole = figure("activation_bytes", **cut, sequence_parallel=False)
    divided = figure("activation_bytes", **cut, sequence_parallel=True)
    selective = figure("activation_bytes", **cut, sequence_parallel=True, recompute="selective")
    assert whole > divided > selective


def test_a_plan_beyond_memory_is_measured_not_refused() -> None:
    assert (
        figure(
            "memory_budget_fraction",
            micro_batch_size=16,
            global_batch_size=64,
            attention="standard",
            fused_softmax=False,
        )
        > 1.0
    )
    assert figure("memory_budget_fraction") < 1.0


def test_the_papers_formula_counts_a_forward_computed_again() -> None:
    again = figure("megatron_flop_per_s_per_gpu", recompute="full")
    flop = 96 * 16 * 2048 * 24 * 2048**2 * (1 + 2048 / (6 * 2048) + 50257 / (16 * 24 * 2048))
    step_s = run_training(plan(recompute="full")).summary["step_s"]
    assert again == pytest.approx(flop / step_s / 8, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in study_names() if load_study(name).of_training])
def test_every_point_of_a_training_study_opens_as_a_scenario_that_memory_does_not_stop(name: str) -> None:
    found = load_study(name)
    for point in found.point:
        scenario = point_scenario(found, point)
        assert isinstance(scenario, TrainingScenario)
        assert not scenario.training.check_memory
        assert point.name[:50] in scenario.name
        assert reads_as(point)


def test_layers_of_the_22b_model_take_what_was_measured() -> None:
    names = [point.name for point in load_study("training/korthikanti-2022").point if point.name.startswith("layer")]
    found = errors("training/korthikanti-2022", *names)
    assert len(found) == 10
    assert max(map(abs, found.values())) < 0.05


def test_small_published_steps_come_out_within_five_percent() -> None:
    iteration = [f"{model}, full recomputation: iteration" for model in ("22B", "175B")]
    found = errors("training/korthikanti-2022", *iteration)
    found |= errors("training/megatron-lm-2021", "GPT 7.5B on 128 GPUs", "GPT 18B on 256 GPUs")
    found |= errors("training/vtrain-2024", "175B on 512 GPUs: micro-batch 2, TP8, PP8, 8 copies")
    assert len(found) == 5
    assert max(map(abs, found.values())) < 0.05


def test_activations_of_the_first_stage_are_those_of_the_paper() -> None:
    names = [f"{model}, selective and sequence parallel: activations" for model in ("22B", "175B")]
    assert max(map(abs, errors("training/korthikanti-2022", *names).values())) < 0.04


def test_attention_without_a_fused_softmax_is_as_slow_as_published() -> None:
    found = {row.point: row for row in run_study("training/flash-attention-2")}
    for model in ("1.3B", "2.7B"):
        chain = found[f"GPT-3 {model}, 8192 tokens, without FlashAttention"]
        fused = found[f"GPT-3 {model}, 8192 tokens, FlashAttention-2"]
        assert fused.simulated / chain.simulated > 2.5  # published 3.1 and 2.8
        assert max(abs(chain.error_fraction), abs(fused.error_fraction)) < 0.15


def mean_absolute(rows: list[Row]) -> float:
    return statistics.mean(abs(row.error_fraction) for row in rows if not math.isnan(row.error_fraction))


@pytest.mark.slow
def test_published_steps_come_out() -> None:
    steps = [row for row in run_study("training/korthikanti-2022") if row.metric == "step_s"]
    assert mean_absolute(steps) < 0.03
    assert mean_absolute(list(run_study("training/megatron-lm-2021"))) < 0.05
    assert mean_absolute(list(run_study("training/vtrain-2024"))) < 0.07


@pytest.mark.slow
def test_bands_of_what_is_left_open_hold_the_runs_at_every_scale() -> None:
    assert all(row.low <= row.published_low <= row.high for row in run_study("training/megascale-2024"))
