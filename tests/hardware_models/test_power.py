"""Watts of GPUs: the formula, its limits, clocks, and devices that nobody measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.power import IDLE_FRACTION, START, Activity, PowerModel, idle_w, power_model, voltage

H100 = catalog.gpu("h100-sxm")
SHARE = st.floats(0.0, 1.0)


def plain_model(**parameters: float) -> PowerModel:
    given = START | {"awake_fraction": 0.1, "busy_fraction": 0.2, "compute_fraction": 0.4, "memory_fraction": 0.1}
    return PowerModel(given | parameters, 50.0, 500.0, 0.1, "assumed", "a test")


def test_watts_are_a_sum_of_shares_of_the_tdp() -> None:
    half = Activity(busy=0.5, compute=0.25, memory=0.5)
    assert plain_model().watts(half) == pytest.approx(50.0 + 500.0 * (0.1 + 0.1 + 0.1 + 0.05))
    assert plain_model().awake_w == pytest.approx(100.0)


def test_a_lower_clock_saves_core_power_by_frequency_and_square_of_voltage_and_leaves_memory_alone() -> None:
    model = plain_model(voltage_slope=0.5, voltage_floor=0.7)
    work = Activity(busy=1.0, compute=0.3, memory=0.8)  # reached at that clock
    v = 1.0 - 0.5 * 0.2
    expected = 50.0 + 500.0 * (0.8 * v**2 * 0.3 + v**2 * 0.4 * 0.3 + 0.1 * 0.8)
    assert model.watts(work, clock=0.8) == pytest.approx(expected)
    assert voltage(np.array([0.1]), model.parameters) == pytest.approx([0.7])


@pytest.mark.parametrize("name", catalog.names("gpu"))
def test_every_device_of_the_catalog_has_watts_between_idle_and_its_limit(name: str) -> None:
    spec, model = catalog.gpu(name), power_model(catalog.gpu(name))
    decode = float(model.watts(Activity(0.8, 0.02, 0.7)))
    assert 0.0 < model.idle_w < model.awake_w < decode < spec.tdp_w
    assert float(model.watts(Activity(1.0, 0.8, 0.5))) == spec.tdp_w
    assert 0.0 < model.sigma < 1.0


@given(st.tuples(SHARE, SHARE, SHARE), st.tuples(SHARE, SHARE, SHARE), st.floats(0.2, 1.0))
def test_doing_more_never_takes_less(first: tuple[float, ...], more: tuple[float, ...], clock: float) -> None:
    model = power_model(H100)
    low, high = np.minimum(first, more), np.maximum(first, more)
    assert model.watts(Activity(*low), clock) <= model.watts(Activity(*high), clock) + 1e-9
    assert model.watts(Activity(*high), clock) <= H100.tdp_w
    assert model.watts(Activity(*low), clock) <= model.watts(Activity(*low), 1.0) + 1e-9


@given(SHARE, SHARE, SHARE, st.floats(150.0, 900.0))
def test_the_clock_within_a_limit_is_the_highest_that_keeps_it(
    busy: float, compute: float, memory: float, limit: float
) -> None:
    model = power_model(H100)
    clock = float(model.clock_within(Activity(busy, compute, memory), limit))

    def demand(f: float) -> float:
        slowed = Activity(busy, compute * f, memory * f if compute >= memory else memory)
        return float(model.watts(slowed, f, limit_w=1e9))

    if clock == 1.0:
        assert demand(1.0) <= limit
    elif clock > 0.15 + 1e-6:
        assert demand(clock) == pytest.approx(limit, rel=1e-6)
    else:
        assert demand(0.15) >= limit - 1e-6


def test_a_power_cap_costs_a_little_clock_first() -> None:
    """A100 inference at a lower clock: 20 % less peak power at 7 % less speed at most (POLCA, arXiv 2308.12908)."""
    model = power_model(catalog.gpu("a100-80gb-sxm"))
    prompt = Activity(busy=1.0, compute=0.45, memory=0.1)
    clock = float(model.clock_within(prompt, 0.8 * float(model.watts(prompt))))
    assert 0.86 < clock < 0.95


def test_a_device_nobody_metered_takes_the_mean_of_its_relatives_and_is_less_sure() -> None:
    h100, a100, l40s = (power_model(catalog.gpu(name)) for name in ("h100-sxm", "a100-80gb-sxm", "l40s"))
    assert (h100.grade, a100.grade, l40s.grade) == ("measured", "measured", "assumed")
    busy = [model.parameters["busy_fraction"] for model in (h100, a100, l40s)]
    assert busy[2] == pytest.approx((busy[0] + busy[1]) / 2)
    assert l40s.sigma > max(h100.sigma, a100.sigma)
    assert power_model(catalog.gpu("h200")).parameters["busy_fraction"] == busy[0]  # of the family alone


def test_idle_watts_are_the_data_sheets_or_a_share_of_the_tdp() -> None:
    assert idle_w(H100) == H100.idle_w
    assert idle_w(H100.model_copy(update={"idle_w": None})) == pytest.approx(IDLE_FRACTION * H100.tdp_w)
