"""Smoothing keeps its bounds, and every joule of it is accounted for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hardware_models.errors import FleetcastError
from policies.power.smoothing import SMOOTHING, GpuBounds, PowerFloor, RackStorage, SecondaryKernel

PERIOD_S = 0.01
GPU = GpuBounds(limit_w=1000.0, waiting_w=100.0)
LOADS = arrays(float, (2, 60), elements=st.floats(100.0, 1000.0))
SQUARE = np.where(np.arange(400) % 100 < 70, 900.0, 150.0)  # 1 s, of which 0.3 s nearly idle


@given(LOADS, st.floats(0.2, 0.9), st.floats(100.0, 50_000.0), st.floats(100.0, 50_000.0), st.floats(0.0, 0.2))
def test_a_floor_is_held_as_long_as_it_should_be_and_ramps_are_never_steeper(
    watts: np.ndarray, floor: float, up: float, down: float, hold_s: float
) -> None:
    policy = PowerFloor(floor_fraction=floor, ramp_up_w_per_s=up, ramp_down_w_per_s=down, hold_s=hold_s)
    drawn, floor_w = policy.of_gpus(watts, PERIOD_S, GPU), floor * GPU.limit_w
    below = np.minimum(np.concatenate([np.full((2, 1), floor_w), drawn], axis=1), floor_w)
    assert np.all(np.diff(below) <= up * PERIOD_S + 1e-9)
    assert np.all(np.diff(below) >= -down * PERIOD_S - 1e-9)
    held = round(hold_s / PERIOD_S - 0.5)
    for row, got in zip(watts, drawn, strict=True):
        for tick in range(1, 60):
            if got[tick - 1] >= floor_w and (row[max(0, tick - held) : tick + 1] >= floor_w).any():
                assert got[tick] >= floor_w
    assert np.all(drawn <= np.maximum(watts, floor_w) + 1e-9)


@given(LOADS, st.floats(0.0, 0.1))
def test_a_filler_only_adds_and_only_below_its_threshold(watts: np.ndarray, response_s: float) -> None:
    policy = SecondaryKernel(threshold_fraction=0.5, fill_fraction=0.8, response_s=response_s)
    drawn = policy.of_gpus(watts, PERIOD_S, GPU)
    more = drawn > watts
    assert np.all(drawn[more] == 800.0)
    assert np.all(watts[more] < 500.0)
    assert np.all(drawn[~more] == watts[~more])
    if response_s == 0.0:
        assert np.all(more == (watts < 500.0))


@given(
    arrays(float, 80, elements=st.floats(1e3, 1e6)), st.floats(1.0, 1e4), st.floats(1.0, 2e3), st.floats(0.3, 1.0),
    st.floats(0.01, 10.0), st.floats(0.1, 100.0),
)  # fmt: skip
def test_a_store_keeps_within_its_energy_and_its_power_and_loses_what_its_efficiency_says(
    load: np.ndarray, capacity_j: float, power_w: float, efficiency: float, constant_s: float, restore_s: float
) -> None:
    policy = RackStorage(
        capacity_j_per_gpu=capacity_j, power_w_per_gpu=power_w, round_trip_efficiency=efficiency,
        time_constant_s=constant_s, restore_s=restore_s,
    )  # fmt: skip
    found = policy.at_the_wall(load, PERIOD_S, 8)
    into_w = found.watts - load
    assert np.all((found.stored_j >= 0.0) & (found.stored_j <= 8 * capacity_j))
    assert np.all(np.abs(into_w) <= 8 * power_w * (1 + 1e-9) + 1e-9 * load)
    assert np.all(found.watts >= 0.0)
    one_way = np.sqrt(efficiency)
    kept_j = np.where(into_w > 0.0, into_w * one_way, into_w / one_way) * PERIOD_S
    assert found.stored_j[-1] - found.stored_j[0] == pytest.approx(kept_j.sum(), rel=1e-9, abs=1e-6 * load.max())


def test_each_way_flattens_a_square_wave() -> None:
    floor = PowerFloor(floor_fraction=0.8).of_gpus(SQUARE[None, :], PERIOD_S, GPU)[0]
    assert floor.min() == 800.0
    filled = SecondaryKernel(fill_fraction=0.9, response_s=0.0).of_gpus(SQUARE[None, :], PERIOD_S, GPU)[0]
    assert np.ptp(filled) == 0.0
    stored = RackStorage(capacity_j_per_gpu=1000.0).at_the_wall(np.tile(SQUARE, 20), PERIOD_S, 1).watts[-400:]
    assert np.ptp(stored) < 0.25 * np.ptp(SQUARE)
    assert SMOOTHING["none"]().of_gpus(SQUARE, PERIOD_S, GPU) is SQUARE


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("power_floor", {"floor_fraction": 0.1}, "floors can be set from 0.2 to 0.9"),
        ("power_floor", {"ramp_up_w_per_s": 0.0}, "give rates above 0"),
        ("secondary_kernel", {"threshold_fraction": 0.95}, "give 0 < threshold_fraction <= fill_fraction <= 1"),
        ("secondary_kernel", {"slowdown_fraction": 1.0}, "a share from 0 to below 1"),
        ("rack_storage", {"capacity_j_per_gpu": 0.0}, "give figures above 0"),
        ("rack_storage", {"round_trip_efficiency": 1.1}, "at most 1"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(name: str, keys: dict[str, float], said: str) -> None:
    with pytest.raises(FleetcastError, match=said):
        SMOOTHING[name](**keys)
