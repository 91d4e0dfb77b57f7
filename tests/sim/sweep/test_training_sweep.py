from collections.abc import Callable
from pathlib import Path

import pytest

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.scenario_file import load_any
from sim.sweep import analyse, expand, load_sweep, read_sweep, run_sweep
from sim.sweep.columns import SERVING_METRICS, VALUE_COLUMNS
from sim.sweep.definition import Sweep
from sim.sweep.goal import parse_limit
from sim.sweep.point import INFEASIBLE, OK
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario

SCENARIO = """
name = "small step"
[model]
config = "gpt3-175b"
[cluster]
node = "dgx-a100-80gb"
nodes = 8
[training]
framework = "megatron-lm-2022"
seq_length = 2048
global_batch_size = 32
tensor_parallel_size = 8
pipeline_parallel_size = 8
sharding = "none"
recompute = "selective"
"""
AXES = """
"training.tensor_parallel_size" = [4, 8]
"training.pipeline_parallel_size" = [4, 8, 7]
"""
SHIPPED = Path(__file__).parents[3] / "scenarios" / "sweeps" / "training-layouts.toml"
Make = Callable[..., Sweep]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    (tmp_path / "step.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)

    def write(axes: str = AXES, goal: str = 'minimize = "step_s"', keys: str = "") -> Sweep:
        (tmp_path / "s.toml").write_text(
            f'schema = 1\nscenario = "step.toml"\n{keys}\n[axes]\n{axes}\n[goal]\n{goal}\n'
        )
        return load_sweep("s.toml")

    return write


def test_rows_hold_the_figures_of_the_runs_and_plans_that_cannot_be_their_reason(make: Make) -> None:
    sweep = make()
    rows = run_sweep(sweep, workers=1)
    assert len(rows) == 6
    best = rows[(rows["training.tensor_parallel_size"] == 8) & (rows["training.pipeline_parallel_size"] == 8)].iloc[0]
    summary = run_training(TrainingScenario.model_validate(sweep.base | {"seed": 0})).summary
    assert best["status"] == OK
    for key in ("step_s", "tokens_per_s_per_gpu", "mfu", "hfu", "energy_j_per_token"):
        assert best[key] == summary[key]
    assert best["memory.peak_bytes"] == summary["memory"]["peak_bytes"]
    assert [best["step_s.low"], best["step_s.high"]] == summary["interval_90"]["step_s"]
    lost = rows[rows["status"] == INFEASIBLE]
    assert len(lost) == 5
    fits_not = lost[(lost["training.tensor_parallel_size"] == 8) & (lost["training.pipeline_parallel_size"] == 4)]
    assert "tensors of a GPU may take" in fits_not["reason"].iloc[0]
    impossible = lost[lost["training.pipeline_parallel_size"] == 7]
    assert all("pipeline_parallel_size = 7" in reason for reason in impossible["reason"])


def test_rows_of_training_have_no_columns_of_serving_and_the_other_way_round(make: Make, tmp_path: Path) -> None:
    sweep = make('"training.micro_batch_size" = [1]')
    rows = run_sweep(sweep, tmp_path / "out", workers=1)
    assert "step_s" in rows
    assert "ttft_s.p99" not in rows
    assert not set(rows) & {key for key in SERVING_METRICS if key not in sweep.metrics}
    again = read_sweep(tmp_path / "out")
    assert list(again) == list(rows)
    assert set(sweep.columns) <= set(VALUE_COLUMNS)


def test_the_best_plan_is_a_scenario_that_runs(make: Make, tmp_path: Path) -> None:
    sweep = make('"training.recompute" = ["selective", "full"]')
    rows = run_sweep(sweep, tmp_path / "out", workers=1)
    best = load_any(tmp_path / "out" / "best.toml")
    assert isinstance(best, TrainingScenario)
    assert best.training.recompute.name == "selective"
    assert run_training(best).summary["step_s"] == rows["step_s"].min()


def test_a_sweep_goes_on_from_its_folder_and_its_own_file(make: Make, tmp_path: Path) -> None:
    first = run_sweep(make(), tmp_path / "out", workers=1)
    seen: list[int] = []
    again = run_sweep(
        tmp_path / "out" / "sweep.toml", tmp_path / "out", workers=1, watch=lambda p: seen.append(p.cached)
    )
    assert max(seen) == len(first)
    assert again.equals(first)


def test_without_a_goal_it_is_tokens_a_gpu_against_memory(make: Make) -> None:
    goal = make(goal="").goal
    assert (goal.metric.key, goal.maximize) == ("tokens_per_s_per_gpu", True)
    assert [metric.key for metric in goal.pareto] == ["tokens_per_s_per_gpu", "memory.peak_bytes"]


def test_a_limit_of_memory_may_be_in_gigabytes(make: Make) -> None:
    sweep = make(goal='minimize = "step_s"\nsubject_to = ["memory.peak_bytes <= 40GB"]',
                 axes='"training.recompute" = ["selective", "full"]')  # fmt: skip
    assert sweep.goal.limits[0].value == 40e9
    analysis = analyse(sweep, run_sweep(sweep, workers=1))
    assert analysis.settings["keeps"].tolist() == (analysis.settings["memory.peak_bytes"] <= 40e9).tolist()


def test_metrics_of_the_other_kind_are_refused_by_name(make: Make) -> None:
    with pytest.raises(FleetcastError, match=r"goal.minimize: unknown name 'ttft_s.p99'"):
        make(goal='minimize = "ttft_s.p99"')
    with pytest.raises(UnknownNameError, match="step_s"):
        parse_limit("step_s <= 3")


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ('"training.tensor_paralel_size" = [2]', "did you mean 'training.tensor_parallel_size'?"),
        ('"training.schedule" = ["1f2b"]', "training.schedule"),
        ('"training.sharding" = [{ name = "zero1", stages = 3 }]', "training.sharding 'zero1' key"),
        ('"training.framework" = ["megatron"]', "training.framework"),
        ('"training.micro_batch_size" = ["two"]', "training.micro_batch_size = 'two': give a whole number"),
    ],
)
def test_a_mistake_is_a_sentence_before_anything_runs(make: Make, axes: str, said: str) -> None:
    with pytest.raises(FleetcastError) as caught:
        expand(make(axes))
    assert said in str(caught.value)


def test_constraints_see_the_plan_with_its_defaults(make: Make) -> None:
    keys = 'constraints = ["training.tensor_parallel_size * training.pipeline_parallel_size <= 32 or training.seed"]'
    with pytest.raises(FleetcastError, match=r"training.seed"):
        expand(make(keys=keys))
    points = expand(make(keys=keys.replace(" or training.seed", " and training.micro_batch_size == 1")))
    assert [points.assignment(point)["training.tensor_parallel_size"] for point in points.points] == [4, 4, 4, 8]


def test_the_shipped_sweep_of_layouts_can_be_run() -> None:
    points = expand(load_sweep(SHIPPED))
    assert 50 < len(points) < 200
    assert points.sweep.goal.metric.key == "step_s"
