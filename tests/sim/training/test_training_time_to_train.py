from typing import Any

import pytest

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.power import power_model
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario


def summary(energy: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    keys = {"seq_length": 2048, "global_batch_size": 512, "check_memory": False, "pipeline_parallel_size": 2}
    return run_training(
        TrainingScenario.model_validate(
            {
                "model": {"config": "gpt3-1.3b"},
                "cluster": {"node": "dgx-a100-80gb", "nodes": 2},
                "training": keys | training,
                "energy": energy,
            }
        )
    ).summary


def test_a_whole_training_is_its_steps_times_the_seconds_of_one() -> None:
    got = summary(train_tokens=1e11)
    whole = got["time_to_train"]
    assert whole["steps"] == pytest.approx(1e11 / (512 * 2048))
    assert whole["days"] * 86400 == pytest.approx(whole["steps"] * got["step_s"])
    assert whole["usd"] == pytest.approx(whole["gpu_hours"] * got["usd_per_gpu_h"])
    assert whole["usd"] == pytest.approx(got["usd_per_billion_tokens"] * 100)
    assert any("whole training takes" in note for note in got["notes"])


def test_the_energy_of_a_training_is_in_one_part_each_and_its_hours_pay_their_own_prices() -> None:
    energy = {"grid": "solar-shaped", "pue": 1.5, "embodied": "bloom-2022"}
    got = summary(train_tokens=1e9, energy=energy, pipeline_parallel_size=4, data_parallel_size=2)
    step, whole = got["energy"], got["time_to_train"]["energy"]
    seconds = got["time_to_train"]["days"] * 86400
    assert sum(step["parts_j"].values()) == pytest.approx(step["site_j"], rel=1e-12)
    plan_j = sum(step["parts_j"][name] for name in ("passes", "optimizer", "exchanges", "waiting"))
    assert plan_j == pytest.approx(got["energy_j_per_step"], rel=1e-12)
    idle_w = power_model(catalog.gpu(got["gpu"])).idle_w
    assert step["parts_j"]["unused"] == pytest.approx(8 * idle_w * got["step_s"])  # of 16 GPUs
    assert (
        whole["site_kwh"] * 3.6e6
        == pytest.approx(step["site_w"] * seconds)
        == pytest.approx(1.5 * whole["wall_kwh"] * 3.6e6)
    )
    assert whole["kgco2e"] == whole["kgco2e_of_grid"] + whole["kgco2e_embodied"]
    assert step["gco2e_per_kwh"] == pytest.approx(sum(catalog.grid("solar-shaped").by_hour) / 24)
    assert whole["gco2e_per_kwh"] != pytest.approx(step["gco2e_per_kwh"])  # it is over before the day is
    days = summary(train_tokens=1e14, energy=energy)["time_to_train"]["energy"]
    assert days["gco2e_per_kwh"] == pytest.approx(step["gco2e_per_kwh"], rel=1e-3)


def test_a_batch_of_the_noise_scale_takes_twice_as_long_as_one_whose_tokens_all_count() -> None:
    alone, noisy = (
        summary(train_tokens=1e11, **more)["time_to_train"] for more in ({}, {"critical_batch_tokens": 512 * 2048})
    )
    assert noisy["days"] == pytest.approx(2 * alone["days"])
    assert noisy["worth_of_a_token"] == pytest.approx(0.5)


def test_a_ramp_costs_time_where_tokens_all_count_since_small_batches_use_gpus_worse() -> None:
    goal = {"train_tokens": 1e11}
    ramped = summary(rampup_batch_size=[64, 64, 10_000_000], **goal)["time_to_train"]
    plain = summary(**goal)["time_to_train"]
    assert ramped["tokens"] == pytest.approx(plain["tokens"])
    assert ramped["days"] > plain["days"]
    assert ramped["steps"] > plain["steps"]


def test_a_ramp_saves_time_where_large_batches_waste_tokens() -> None:
    goal = {"train_tokens": 1e11, "critical_batch_tokens": 3e5}
    ramped = summary(rampup_batch_size=[64, 64, 20_000_000], **goal)["time_to_train"]
    assert ramped["tokens"] < summary(**goal)["time_to_train"]["tokens"]


def test_without_a_goal_nothing_is_said() -> None:
    assert "time_to_train" not in summary()


def test_a_ramp_that_copies_cannot_share_is_refused() -> None:
    with pytest.raises(FleetcastError, match="multiples of micro_batch_size"):
        summary(train_tokens=1e9, rampup_batch_size=[12, 4, 1000])
