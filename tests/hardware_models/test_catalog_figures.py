"""The catalog's figures agree with each other: peaks with units and clocks, nodes with what they name."""

from __future__ import annotations

import itertools

import pytest

from hardware_models import catalog

GPUS, CPUS, SSDS, NICS, LINKS, NODES, CLUSTERS = (
    catalog.names(kind) for kind in ("gpu", "cpu", "ssd", "nic", "link", "node", "cluster")
)
GIB = 2**30

# Dense flop a clock and SM (CU), from the architecture whitepapers: fp32 on vector units, fp16 on matrix units.
FLOP_PER_CLOCK = {
    ("pascal", "HBM"): (128, 256),  # no matrix units
    ("volta", "HBM"): (128, 1024),
    ("turing", "GDDR"): (128, 1024),
    ("ampere", "HBM"): (128, 2048),
    ("ampere", "GDDR"): (256, 1024),
    ("ada", "GDDR"): (256, 1024),
    ("hopper", "HBM"): (256, 4096),
    ("blackwell", "HBM"): (256, 8192),
    ("blackwell", "GDDR"): (256, 1024),
    ("cdna2", "HBM"): (128, 1024),
    ("cdna3", "HBM"): (256, 2048),
}
HALF_RATE_WITH_FP32_ACCUMULATE = {"rtx-3090", "rtx-4090"}
EXPORT_CUT = {"h20"}
# bytes/s a stack or card generation can reach, from the narrowest to the widest bus sold
BANDWIDTH_RANGE = {
    "GDDR6": (0.25e12, 0.9e12),
    "GDDR6X": (0.7e12, 1.05e12),
    "GDDR7": (0.8e12, 1.8e12),
    "HBM2": (0.7e12, 1.6e12),
    "HBM2e": (1.5e12, 2.1e12),
    "HBM3": (3.3e12, 5.4e12),
    "HBM3e": (4.7e12, 8.1e12),
}
MARKETING_GB = {
    "p100-16gb-pcie": 16, "quadro-rtx-6000": 24,
    "v100-16gb-pcie": 16, "v100-16gb-sxm": 16, "v100-32gb-sxm": 32, "t4": 16, "a10": 24, "a40": 48, "a6000": 48,
    "a100-40gb-pcie": 40, "a100-40gb-sxm": 40, "a100-80gb-pcie": 80, "a100-80gb-sxm": 80, "l4": 24, "l40s": 48,
    "rtx-3090": 24, "rtx-4090": 24, "rtx-pro-6000": 96, "h20": 96, "h100-pcie": 80, "h100-sxm": 80, "h100-nvl": 94,
    "h800": 80, "h200": 141, "gh200": 96, "gh200-144gb": 144, "b200": 180, "b300": 288, "gb200": 186, "mi250x": 64,
    "mi300x": 192,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(GPUS) - EXPORT_CUT))
def test_peaks_are_dense_and_agree_with_units_and_clocks(name: str) -> None:
    spec = catalog.gpu(name)
    vector, matrix = FLOP_PER_CLOCK[spec.architecture, "HBM" if spec.memory_type.startswith("HBM") else "GDDR"]
    if name in HALF_RATE_WITH_FP32_ACCUMULATE:
        matrix //= 2
    clock_hz = spec.matrix_clock_hz or spec.boost_clock_hz
    assert clock_hz <= spec.boost_clock_hz
    assert spec.peak_flop_per_s["fp32"] == pytest.approx(spec.sm_count * spec.boost_clock_hz * vector, rel=0.03)
    assert spec.peak_flop_per_s["fp16"] == pytest.approx(spec.sm_count * clock_hz * matrix, rel=0.03)


@pytest.mark.parametrize("name", GPUS)
def test_narrower_formats_run_at_the_rates_their_units_allow(name: str) -> None:
    peak = catalog.gpu(name).peak_flop_per_s
    half = peak["fp16"]
    assert peak.get("bf16", half) == half
    # the consumer cards halve fp16 and tf32 but not int8
    consumer = name in HALF_RATE_WITH_FP32_ACCUMULATE
    assert peak.get("tf32", half / 2) == pytest.approx(half / 2, rel=0.02)
    assert peak.get("fp8", 2 * half) == pytest.approx(2 * half, rel=0.02)
    # Blackwell Ultra gave int8 up for fp4; CDNA2 runs it at the rate of fp16
    int8 = {"b300": 1 / 12, "mi250x": 1}.get(name, 4 if consumer else 2) * half
    assert peak.get("int8", int8) == pytest.approx(int8, rel=0.02)
    fp4 = (6 if name == "b300" else 4) * half
    assert peak.get("fp4", fp4) == pytest.approx(fp4, rel=0.02)


def test_export_cut_gpus_stay_far_below_their_architecture() -> None:
    spec = catalog.gpu("h20")
    assert spec.peak_flop_per_s["bf16"] < 0.3 * spec.sm_count * spec.boost_clock_hz * 4096


@pytest.mark.parametrize("name", GPUS)
def test_formats_match_the_architecture(name: str) -> None:
    spec = catalog.gpu(name)
    has = set(spec.peak_flop_per_s)
    assert ("bf16" in has) == (spec.architecture not in {"pascal", "volta", "turing"})
    assert ("fp8" in has) == (spec.architecture in {"ada", "hopper", "blackwell", "cdna3"})
    assert ("fp4" in has) == (spec.architecture == "blackwell")


@pytest.mark.parametrize("name", GPUS)
def test_memory_is_the_drivers_figure_and_its_bandwidth_possible(name: str) -> None:
    spec = catalog.gpu(name)
    assert 0.92 * MARKETING_GB[name] * GIB < spec.memory_bytes <= MARKETING_GB[name] * GIB
    low, high = BANDWIDTH_RANGE[spec.memory_type]
    assert low <= spec.memory_bandwidth_bytes_per_s <= high


@pytest.mark.parametrize("name", GPUS)
def test_gpus_links_resolve_and_idle_power_is_below_the_limit(name: str) -> None:
    spec = catalog.gpu(name)
    assert catalog.link(spec.pcie).topology == "host"
    if spec.scale_up is not None:
        assert catalog.link(spec.scale_up).kind in {"nvlink", "xgmi"}
        assert catalog.link(spec.scale_up).bandwidth_bytes_per_s > catalog.link("pcie4-x16").bandwidth_bytes_per_s
    assert spec.idle_w is None or spec.idle_w < 0.25 * spec.tdp_w


@pytest.mark.parametrize("name", CPUS)
def test_cpu_peaks_agree_with_cores_and_channels(name: str) -> None:
    spec = catalog.cpu(name)
    assert spec.base_clock_hz < spec.boost_clock_hz < 6.5e9
    flop_per_clock = spec.fp32_flop_per_s / (spec.cores * spec.base_clock_hz)
    assert 15 <= flop_per_clock <= 65
    channel = spec.memory_bandwidth_bytes_per_s / spec.memory_channels
    assert (10e9 if name == "grace" else 19e9) <= channel <= 52e9  # Grace's channels are narrower than DIMMs
    assert catalog.link(spec.pcie).kind == "pcie"


@pytest.mark.parametrize("name", SSDS)
def test_ssd_random_access_is_no_faster_than_sequential(name: str) -> None:
    spec = catalog.ssd(name)
    assert spec.random_read_iops * 4096 <= spec.sequential_read_bytes_per_s
    assert spec.random_write_iops * 4096 <= spec.sequential_write_bytes_per_s
    assert (spec.sustained_write_bytes_per_s or 1e6) <= spec.sequential_write_bytes_per_s
    assert spec.sequential_write_bytes_per_s <= spec.sequential_read_bytes_per_s
    assert spec.idle_w < spec.active_w


@pytest.mark.parametrize("name", NICS)
def test_a_nic_is_no_faster_than_the_link_it_plugs_into(name: str) -> None:
    spec = catalog.nic(name)
    assert spec.bandwidth_bytes_per_s <= catalog.link(spec.link).bandwidth_bytes_per_s


@pytest.mark.parametrize("name", LINKS)
def test_link_bandwidths_are_of_one_direction(name: str) -> None:
    spec = catalog.link(name)
    fastest = {"nvlink": 900e9, "c2c": 450e9, "xgmi": 448e9, "pcie": 121e9, "infiniband": 100e9, "ethernet": 50e9}
    assert spec.bandwidth_bytes_per_s <= fastest[spec.kind]
    assert not spec.in_switch_reduction or spec.topology == "switch"


def test_each_generation_of_a_link_doubles_or_so() -> None:
    for family in (
        [f"pcie{generation}-x16" for generation in (3, 4, 5, 6)],
        [f"infiniband-{rate}" for rate in ("edr", "hdr", "ndr", "xdr")],
        [f"nvlink{generation}-switch" for generation in (2, 3, 4, 5)],
    ):
        speeds = [catalog.link(name).bandwidth_bytes_per_s for name in family]
        assert all(1.5 <= after / before <= 2.0 for before, after in itertools.pairwise(speeds))


@pytest.mark.parametrize("name", NODES)
def test_everything_a_node_names_resolves_and_fits_together(name: str) -> None:
    spec = catalog.node(name)
    gpu, cpu = catalog.gpu(spec.gpu), catalog.cpu(spec.cpu)
    catalog.ssd(spec.ssd)
    catalog.nic(spec.nic)
    assert (
        catalog.link(spec.pcie).bandwidth_bytes_per_s <= catalog.link(gpu.pcie).bandwidth_bytes_per_s
    )  # a slot may be older
    if spec.scale_up is not None:
        link = catalog.link(spec.scale_up)
        assert gpu.scale_up is not None
        assert link.kind == catalog.link(gpu.scale_up).kind
        assert spec.scale_up_group == 2 if link.topology == "pairs" else spec.scale_up_group >= spec.gpus
    if spec.max_power_w is not None:
        assert spec.gpus * gpu.tdp_w + spec.cpu_sockets * cpu.tdp_w <= spec.max_power_w


@pytest.mark.parametrize("name", CLUSTERS)
def test_everything_a_cluster_names_resolves(name: str) -> None:
    spec = catalog.cluster(name)
    card = catalog.nic(catalog.node(spec.node).nic)
    assert card.bandwidth_bytes_per_s == catalog.link(spec.network).bandwidth_bytes_per_s
    assert spec.nodes_per_leaf <= spec.nodes
