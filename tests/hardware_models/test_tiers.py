"""Memory below GPUs: what copies share, what drives and CPU kernels reach, and where each figure is from."""

import pytest

from hardware_models import catalog
from hardware_models.cpu_kernels import ADAM_BYTES
from hardware_models.errors import ImpossibleError
from hardware_models.tiers import DRAM, tiers


def test_gpus_below_one_switch_share_its_uplink() -> None:
    has = tiers(catalog.node("dgx-a100-80gb-pcie-tree"))
    assert has.copy_bytes_per_s("h2d", 1) == pytest.approx(25e9)
    assert has.copy_bytes_per_s("h2d", 2) == pytest.approx(12.5e9)


def test_both_directions_at_once_are_slower_than_one() -> None:
    has = tiers(catalog.node("rtx-4090-workstation"))
    both = next(link for link in has.route("h2d").links if "both ways" in link)
    assert both in has.route("d2h").links
    assert has.links[both] < 2 * has.route("h2d").bytes_per_s


def test_pageable_copies_cross_host_memory_three_times() -> None:
    has = tiers(catalog.node("t4-1x"))
    assert has.route("d2h", pinned=False).links.count(DRAM) == 3
    assert has.copy_bytes_per_s("d2h", pinned=False) == pytest.approx(4.82e9, rel=1e-3)


@pytest.mark.parametrize(("count", "read"), [(1, 2.9e9), (2, 5.6e9), (4, 10.1e9)])
def test_drives_read_as_deepnvme_measured_them(count: int, read: float) -> None:
    node = catalog.node("azure-nc96ads-v4")
    assert node.ssd == "azure-nc-a100-nvme"
    assert tiers(node, drives=count).storage_bytes_per_s(read=True) == pytest.approx(read, rel=0.01)


def test_more_drives_are_faster_and_none_is_refused() -> None:
    node = catalog.node("rtx-4090-8x")
    rates = [tiers(node, drives=count).need_drives().read_bytes_per_s for count in range(1, 13)]
    assert rates == sorted(rates)
    with pytest.raises(ImpossibleError, match="no drives"):
        tiers(node, drives=0).need_drives()


def test_small_random_reads_wait_for_their_latency_and_large_ones_for_the_drive() -> None:
    drives = tiers(catalog.node("rtx-4090-8x"), drives=1).need_drives()
    assert drives.random_bytes_per_s(4096.0, depth=1) == pytest.approx(4096 / 82e-6, rel=0.02)
    assert drives.random_bytes_per_s(4096.0) == pytest.approx(700e3 * 4096)
    assert drives.random_bytes_per_s(1 << 24) == pytest.approx(min(drives.read_bytes_per_s, 700e3 * 4096))


def test_adam_on_the_cpu_is_a_rate_of_bytes_and_never_beyond_host_memory() -> None:
    cpu = tiers(catalog.node("rtx-4090-8x")).cpu
    assert cpu.adam_parameters_per_s() * ADAM_BYTES == pytest.approx(cpu.rates.process_bytes_per_s)
    assert cpu.adam_parameters_per_s(64) * ADAM_BYTES == pytest.approx(cpu.dram_bytes_per_s)
    assert tiers(catalog.node("dgx-2")).cpu.adam_parameters_per_s() == pytest.approx(1.543e9)
    assert tiers(catalog.node("dgx-2"), adam=3.9e9).cpu.adam_parameters_per_s() == pytest.approx(3.9e9)
