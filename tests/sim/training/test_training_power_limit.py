import pytest

from hardware_models import catalog
from sim.training.power_limit import sustained_clock
from sim.training.pricing import Spent


def test_idle_work_runs_at_boost() -> None:
    assert sustained_clock(Spent(), catalog.gpu("a100-80gb-sxm")) == 1.0
    assert sustained_clock(Spent(launch_s=1.0), catalog.gpu("a100-80gb-sxm")) == 1.0


@pytest.mark.parametrize("name", ["a100-80gb-sxm", "h100-sxm"])
def test_the_denser_the_arithmetic_the_lower_the_clock(name: str) -> None:
    gpu = catalog.gpu(name)
    clocks = [sustained_clock(Spent(compute_s=1.0, peak_s=share, moved_bytes=3e11), gpu) for share in (0.2, 0.6, 0.9)]
    assert clocks == sorted(clocks, reverse=True)
    assert 0.7 < clocks[-1] < clocks[0] <= 1.0


def test_a_higher_limit_lets_the_clock_rise() -> None:
    gpu = catalog.gpu("h100-sxm")
    work = Spent(compute_s=1.0, peak_s=0.7, moved_bytes=5e11)
    assert sustained_clock(work, gpu.model_copy(update={"tdp_w": 1400.0})) > sustained_clock(work, gpu)
