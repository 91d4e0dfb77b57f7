"""Clocks pass by pass in a simulated step: no longer than asked, fewer joules, and refused where they mean nothing."""

from typing import Any

import pytest

from hardware_models.errors import FleetcastError
from policies.power.perseus import frontier
from sim.training.clock_account import gpus_j
from sim.training.clock_frontier import ClockPrices, pipeline_of
from sim.training.result import TrainingResult, run_training
from sim.training.simulate import TrainingRun, simulate_at, simulate_training
from sim.training.stage_clocks import planned_clocks
from sim.training_scenario import TrainingScenario

NO_LONGER = 1e-6  # relative: sums of nanoseconds in another order


def scenario(power: dict[str, Any] | None, **training: Any) -> TrainingScenario:
    keys = {"framework": "megatron-lm-2021", "seq_length": 1024, "global_batch_size": 16, "micro_batch_size": 4}
    sizes = {"pipeline_parallel_size": 2, "data_parallel_size": 1, "sharding": "zero1", "check_memory": False}
    tables = {
        "model": {"config": "gpt3-1.3b"},
        "cluster": {"node": "dgx-a100-80gb", "nodes": 1},
        "training": keys | sizes | training,
        "power": power,
    }
    return TrainingScenario.model_validate(tables)


def passes_span_s(run: TrainingRun) -> float:
    """From the first pass of a step to the end of the last."""
    tasks = list(run.exchanges.slots)
    return max(run.times.end_s[task] for task in tasks) - min(run.times.start_s[task] for task in tasks)


@pytest.mark.parametrize("schedule", [{"name": "interleaved_1f1b", "chunks": 2}, "zb_v"])
def test_passes_off_the_critical_path_slow_down_and_the_step_does_not(schedule: Any) -> None:
    found = run_training(scenario({"stage_clocks": "perseus"}, schedule=schedule))
    clocks, summary = found.summary["power"]["stage_clocks"], found.summary
    assert summary["step_s"] <= clocks["step_s_at_boost"] * (1 + NO_LONGER)
    assert 0.03 < clocks["saved_fraction"] < 0.3
    assert clocks["gpu_j_per_step"] == pytest.approx(summary["energy_j_per_step"], rel=1e-9)
    assert sum(summary["bound_by"].values()) == pytest.approx(1.0, rel=1e-9)
    highest = max(row["highest_mhz"] for row in clocks["stages"])
    assert highest == pytest.approx(1410 * summary["clock_fraction"])
    assert min(row["lowest_mhz"] for row in clocks["stages"]) < highest
    assert any(", 1," in name for name in found.tasks["name"])  # says its clock in MHz


def test_longer_iterations_draw_less_and_steps_are_as_long_as_planned() -> None:
    boost = simulate_training(scenario(None))
    prices = ClockPrices(boost.deployment)
    found = frontier(pipeline_of(boost.deployment, prices))
    assert found.shortest_s == pytest.approx(passes_span_s(boost), rel=NO_LONGER)
    joules, spans_s = [gpus_j(boost)], []
    for length in (1.0, 1.04, 1.08):
        planned = found.run(length * found.shortest_s)
        run = simulate_at(boost.deployment, planned_clocks(prices, found.pipeline, planned, "perseus"))
        joules.append(gpus_j(run))
        spans_s.append(passes_span_s(run))
        assert spans_s[-1] <= planned.iteration_s * (1 + NO_LONGER)
    assert joules == sorted(joules, reverse=True)
    assert spans_s == sorted(spans_s)


def test_beside_a_late_pipeline_all_slow_down_to_it_and_wait_no_longer() -> None:
    def run(**keys: Any) -> TrainingResult:
        return run_training(scenario({"stage_clocks": {"name": "perseus"} | keys}, data_parallel_size=2))

    late, alone = run(straggler=1.15), run()
    clocks = late.summary["power"]["stage_clocks"]
    assert late.summary["step_s"] == pytest.approx(clocks["step_s_at_boost"], rel=NO_LONGER)
    assert late.summary["step_s"] > 1.05 * alone.summary["step_s"]
    assert clocks["saved_fraction"] > alone.summary["power"]["stage_clocks"]["saved_fraction"]
    assert any("15 times as long" in note for note in late.summary["notes"])


@pytest.mark.parametrize(
    ("power", "training", "said"),
    [
        ({"stage_clocks": "perseus"}, {"pipeline_parallel_size": 1}, "no pass waits for another stage"),
        ({"stage_clocks": "perseus", "clock_mhz": 300.0}, {}, "GPUs run at 300 MHz, and clocks are chosen from 564"),
        ({"stage_clocks": {"name": "perseus", "straggler": 1.2}}, {}, "there is one copy of the model"),
        ({"stage_clocks": {"name": "perseus", "straggler": 0.9}}, {}, "straggler = 0.9"),
        ({"stage_clocks": {"name": "perseus", "slowdown": -0.1}}, {}, "slowdown = -0.1"),
        ({"stage_clocks": {"name": "perseus", "iteration_s": float("nan")}}, {}, "iteration_s = nan: give seconds"),
        ({"stage_clocks": {"name": "perseus", "slowdown": 0.1, "straggler": 1.2}}, {}, "give one of them"),
        ({"stage_clocks": {"name": "perseus", "iteration_s": 0.01}}, {}, "no clocks make the passes of a step shorter"),
        ({"stage_clocks": "persius"}, {}, "did you mean 'perseus'"),
        ({"stage_clocks": "perseus"}, {"stage_profile": "gpt3-175b-a100-80gb-sxm"}, "priced by the hardware models"),
    ],
)
def test_wishes_that_no_clocks_fulfil_are_refused(power: dict[str, Any], training: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetcastError, match=said):
        simulate_training(scenario(power, **training))
