"""Power of a training step: conserved from tasks to the wall, within its limits, and as swinging as it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.errors import FleetcastError, ImpossibleError
from hardware_models.power import Activity, power_model
from sim.power.series import PowerSeries
from sim.training.power_swings import Repeated, Spectrum
from sim.training.result import TrainingResult, run_training
from sim.training.step_power import STEPS, StepPower
from sim.training_scenario import TrainingScenario

MODEL = power_model(catalog.gpu("a100-80gb-sxm"))


def run(power: dict[str, Any] | None = None, *, nodes: int = 2, **training: Any) -> TrainingResult:
    keys = {"seq_length": 2048, "global_batch_size": 32, "framework": "megatron-core-0.8", "check_memory": False}
    tables = {
        "model": {"config": "gpt3-1.3b"},
        "cluster": {"node": "dgx-a100-80gb", "nodes": nodes},
        "training": keys | {"tensor_parallel_size": 2, "pipeline_parallel_size": 4} | training,
        "power": power,
    }
    return run_training(TrainingScenario.model_validate(tables))


PLANS = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(["1f1b", {"name": "interleaved_1f1b", "chunks": 2}, "zb_h2", "zb_v"]),
        "sharding": st.sampled_from(["none", "zero1", "zero3"]),
        "tensor_parallel_size": st.sampled_from([1, 2]),
        "slow_gpus": st.sampled_from([[], [{"stage": 1, "slowdown": 1.3}]]),
    }
)
POWERS = st.sampled_from([None, {"clock_mhz": 1100.0}, {"smoothing": "power_floor"}, {"smoothing": "rack_storage"}])


@settings(max_examples=15, deadline=None)
@given(PLANS, POWERS)
def test_energy_is_the_integral_of_watts_from_tasks_to_the_wall(
    plan: dict[str, Any], power: dict[str, Any] | None
) -> None:
    result = run(power, **plan)
    summary, step = result.summary, StepPower.of(result.run)
    ranks = summary["gpus"] / len(step.gpus)
    gpus_j = sum(one.energy_j for one in step.gpus) * ranks
    assert gpus_j == pytest.approx(summary["energy_j_per_step"], rel=1e-9)
    assert step.cluster.energy_j == pytest.approx(summary["energy"]["wall_j"], rel=1e-9)
    assert sum(summary["energy"]["parts_j"].values()) == pytest.approx(summary["energy"]["site_j"], rel=1e-9)
    frame = result.power
    for scope, joules in (("gpu", gpus_j), ("cluster", step.cluster.energy_j)):
        drawn = 0.0
        for _, rows in frame[frame["scope"] == scope].groupby("id"):
            drawn += float(np.sum(np.diff(rows["t_s"]) * rows["watts"].to_numpy()[:-1]))
        assert drawn * (ranks if scope == "gpu" else 1.0) == pytest.approx(STEPS * joules, rel=1e-9)
    assert all(one.watts.max() <= MODEL.tdp_w and one.end_s == summary["step_s"] for one in step.gpus)


@settings(max_examples=15, deadline=None)
@given(PLANS)
def test_a_gpu_waits_or_exchanges_whenever_it_has_no_pass(plan: dict[str, Any]) -> None:
    result = run(**plan)
    clock = result.summary["clock_fraction"]
    step = StepPower.of(result.run)
    joules = np.sum([one.joules for one in step.work], axis=0)
    exchange_w = float(MODEL.watts(Activity(1.0, 0.0, 0.0), clock))
    tasks = result.tasks[result.tasks["stream"] == "compute"]
    lasted = (tasks["end_s"] - tasks["start_s"])[~tasks["kind"].isin(["host", "launch"])]
    alone_s = len(step.work) * result.summary["step_s"] - lasted.sum()
    assert joules[2] / exchange_w + joules[3] / MODEL.awake_w == pytest.approx(alone_s, rel=1e-6, abs=1e-9)


def test_a_lower_clock_or_limit_slows_the_step_and_no_gpu_draws_more() -> None:
    free, locked, limited = (run(power) for power in (None, {"clock_mhz": 1005.0}, {"gpu_power_limit_w": 250.0}))
    assert locked.summary["clock_fraction"] == pytest.approx(1005.0 / 1410.0)
    for result in (locked, limited):
        assert result.summary["step_s"] > free.summary["step_s"]
        assert result.summary["energy_j_per_step"] < free.summary["energy_j_per_step"]
    assert limited.summary["power"]["gpu_w"]["peak"] <= 250.0
    assert limited.summary["power"]["gpu_w"]["trough"] == pytest.approx(MODEL.awake_w)
    assert locked.summary["power"]["gpu_w"]["trough"] < MODEL.awake_w


@pytest.mark.parametrize(
    ("power", "kind", "said"),
    [
        ({"clock_mhz": 1500.0}, ImpossibleError, "runs at 1410 MHz at most"),
        ({"gpu_power_limit_w": 60.0}, ImpossibleError, "without work"),
        ({"gpu_power_limit_w": 500.0}, ImpossibleError, "400 W is the most"),
        ({"gpu_power_limit_w": 85.0}, ImpossibleError, "at its lowest clock"),
        ({"smoothing": "flat"}, FleetcastError, "power.smoothing.name"),
        ({"smoothing": {"name": "power_floor", "floor": 0.5}}, FleetcastError, "floor_fraction"),
    ],
)
def test_impossible_power_is_refused_in_a_sentence(power: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        run(power)


def test_smoothing_takes_the_swing_for_joules_or_time_that_the_summary_has() -> None:
    free = run().summary
    floor, filled = (run({"smoothing": name}).summary for name in ("power_floor", "secondary_kernel"))
    for smoothed in (floor, filled):
        found = smoothed["power"]
        assert found["swing_fraction"] < found["smoothing"]["swing_fraction_without"] + 1e-9
        assert smoothed["energy"]["parts_j"]["smoothing"] > 0.0
        assert any("takes the swing at the wall" in note for note in smoothed["notes"])
    assert floor["step_s"] == free["step_s"]
    assert 1.03 < filled["step_s"] / free["step_s"] <= 1.05 + 1e-9
    assert any("filler kernels" in note for note in filled["notes"])


@st.composite
def steps(draw: st.DrawFn) -> PowerSeries:
    lengths = draw(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=8))
    watts = draw(st.lists(st.floats(0.0, 1000.0), min_size=len(lengths), max_size=len(lengths)))
    return PowerSeries.of(np.concatenate([[0.0], np.cumsum(lengths)]), watts)


@given(steps(), st.floats(0.05, 4.0))
def test_no_reading_of_any_telemetry_exceeds_the_extremes(step: PowerSeries, period_s: float) -> None:
    count = int(np.ceil(4.0 * period_s / step.end_s)) + 4
    starts = (np.arange(count)[:, None] * step.end_s + step.t_s[:-1]).ravel()
    many = PowerSeries.of(np.append(starts, count * step.end_s), np.tile(step.watts, count))
    at = np.linspace(period_s, many.end_s - period_s, 300)
    means = (many.joules(at) - many.joules(at - period_s)) / period_s
    ahead = (many.joules(at + period_s) - many.joules(at)) / period_s
    low, high = Repeated(step).means(period_s)
    up, down = Repeated(step).ramps(period_s)
    assert np.all((means >= low - 1e-6) & (means <= high + 1e-6))
    rate = (ahead - means) / period_s
    assert np.all((rate <= up + 1e-5 / period_s**2) & (rate >= -down - 1e-5 / period_s**2))
    assert low - 1e-9 <= step.mean_w <= high + 1e-9


def test_the_spectrum_of_a_square_wave_is_known() -> None:
    edges = np.arange(9) * 0.25
    found = Spectrum.of(PowerSeries.of(edges, [300.0, 100.0] * 4))
    hz, amplitude = found.dominant
    assert hz == pytest.approx(2.0)
    assert amplitude == pytest.approx(100.0 * 4.0 / math.pi, rel=2e-3)
    assert found.near(2.0) == amplitude
    assert found.near(0.5) < 1e-9
    assert found.share() == pytest.approx(8.0 / math.pi**2 * (1 + 1 / 9 + 1 / 25 + 1 / 49 + 1 / 81), rel=5e-3)
