"""Watts of whole servers: sums of parts, what was measured at the wall, and servers that nobody measured."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.errors import ImpossibleError
from hardware_models.power import power_model
from hardware_models.server_power import Supply, server_power

H200 = server_power(catalog.node("dgx-h200"))
A100 = server_power(catalog.node("dgx-a100-80gb"))
SHARE = st.floats(0.0, 1.0)
# Medians of whole runs at the wall, eight H200s under a power limit that is not stated (MLPerf Inference v4.1, NVIDIA,
# H200-SXM-141GBx8_TRT_MaxQ, 1 Hz): gptj and stable-diffusion-xl, each offline and as a server.
MEASURED_W = np.array([4777.6, 4728.0, 5537.6, 5505.7])


@pytest.mark.parametrize("name", catalog.names("node"))
def test_every_server_of_the_catalog_draws_more_than_its_gpus_and_little_more_than_it_is_rated_for(name: str) -> None:
    node = catalog.node(name)
    server = server_power(node)
    assert 1.0 < server.idle_w / server.gpus.idle_w < 15.0
    assert server.gpus.full_w < server.max_w < 1.85 * (server.gpus.full_w + server.cpus.full_w)
    assert server.max_w < 1.08 * server.rated_w
    assert 0.1 < server.idle_w / server.max_w < 0.45
    parts = server.breakdown(server.gpus.full_w, 1.0, 1.0, 1.0)
    assert sum(parts.values()) == pytest.approx(server.max_w)
    assert 0.0 < float(parts["supply"]) < 0.1 * server.max_w


@given(SHARE, SHARE, SHARE, SHARE, st.tuples(SHARE, SHARE, SHARE, SHARE))
def test_doing_more_draws_more_and_a_watt_of_a_gpu_costs_more_than_one_at_the_wall(
    gpu: float, cpu: float, memory: float, drive: float, more: tuple[float, float, float, float]
) -> None:
    low = A100.watts(gpu * A100.gpus.full_w, cpu, memory, drive)
    gpu, cpu, memory, drive = (a + b * (1.0 - a) for a, b in zip((gpu, cpu, memory, drive), more, strict=True))
    high = A100.watts(gpu * A100.gpus.full_w, cpu, memory, drive)
    assert low <= high + 1e-9
    assert A100.watts(gpu * A100.gpus.full_w + 100.0, cpu, memory, drive) > high + 100.0


def test_the_range_of_a_server_of_eight_holds_what_was_measured_and_the_hidden_limit_is_one_that_people_set() -> None:
    assert H200.idle_w == pytest.approx(2391.0, rel=0.01)  # fitted on
    assert np.all((H200.idle_w < MEASURED_W) & (H200.max_w > MEASURED_W))
    per_gpu_w = np.array([H200.gpu_watts_within(watts) / 8 for watts in MEASURED_W])
    awake_w = power_model(catalog.gpu("h200")).awake_w
    assert np.all((awake_w < per_gpu_w) & (per_gpu_w < 700.0))
    assert per_gpu_w == pytest.approx([350.0, 350.0, 450.0, 450.0], rel=0.05)
    assert float(H200.watts(8 * awake_w)) == pytest.approx(3039.0, rel=2 * H200.sigma)  # waiting for work


def test_a_server_of_another_generation_peaks_where_it_was_seen_to() -> None:
    assert A100.max_w == pytest.approx(5700.0, rel=0.03)  # POLCA (arXiv 2308.12908), the most of a DGX A100
    assert A100.rated_w == 6500.0
    assert (H200.grade, A100.grade) == ("quoted", "assumed")
    assert A100.sigma > H200.sigma


def test_fans_follow_the_cube_of_a_speed_that_rises_with_heat() -> None:
    fans = H200.fans
    speed = fans.still + (fans.hot - fans.still) * 0.5
    assert float(fans.watts(0.5 * fans.heat_w)) == pytest.approx(fans.full_w * speed**3)
    assert float(fans.watts(9.0 * fans.heat_w)) == fans.full_w


def test_supplies_lose_what_is_certified_at_the_certified_loads() -> None:
    for load, efficiency in ((0.1, 0.90), (0.2, 0.94), (0.5, 0.96), (1.0, 0.91)):
        given_w = load * H200.supply.rated_w
        assert given_w / (given_w + float(H200.supply.losses(given_w))) == pytest.approx(efficiency)
    plain = Supply(100.0, (0.0, 1.0), (0.02, 0.1))
    assert plain.losses([0.0, 50.0, 200.0]) == pytest.approx([2.0, 6.0, 20.0])


@given(st.floats(0.0, 1.5), SHARE)
def test_the_most_that_gpus_may_draw_within_a_limit_keeps_it(part: float, cpu: float) -> None:
    limit = float(A100.watts(A100.gpus.idle_w, cpu)) + part * 4000.0
    gpu_w = A100.gpu_watts_within(limit, cpu)
    assert A100.gpus.idle_w <= gpu_w <= A100.gpus.full_w
    assert float(A100.watts(gpu_w, cpu)) <= limit
    assert gpu_w == A100.gpus.full_w or math.isclose(float(A100.watts(gpu_w, cpu)), limit, rel_tol=1e-9)


def test_a_limit_below_idle_is_refused_in_one_sentence() -> None:
    with pytest.raises(ImpossibleError, match=r"^1000 W for a whole dgx-h200: it draws 2\d\d\d W with idle GPUs"):
        H200.gpu_watts_within(1000.0)
