"""What one could add to a server: one more drive, twice the host memory, a faster link, a GPU with more memory.

A changed server is a file of its own beside the plan, so that everything is looked up of it as of any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware_models import catalog
from hardware_models.specs import GpuSpec, NodeSpec
from hardware_models.tiers import tiers
from hardware_models.variation import Variation
from hardware_models.variation_file import write_variation
from sim.offload.inference_scenario import OffloadedInferenceScenario, OffloadRates
from sim.plan.offload.outcome import OffloadScenario

PCIE = ("pcie3-x16", "pcie4-x16", "pcie5-x16", "pcie6-x16")
MORE = 1.2  # times as much memory that a next GPU has at least
UP = ("h2d_bytes_per_s", "h2d_pageable_bytes_per_s")  # measured rates that go with the link
DOWN = ("d2h_cache_bytes_per_s", "d2h_activation_bytes_per_s")
ON_GPU = (
    "prefill_matrix_flop_per_s", "decode_matrix_flop_per_s", "prefill_attention_flop_per_s",
    "decode_attention_flop_per_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Addition:
    """Something to buy. replaces: something else goes, so that it may be worse than nothing."""

    kind: str  # "drive", "memory", "link", "gpu"
    name: str
    scenario: OffloadScenario | None  # on the server with it; None: there is no such thing
    remark: str = ""
    replaces: bool = False
    usd_per_gpu_h: float | None = None  # of the GPU, where it is another one
    most: float = 2.0  # times as fast as before: what was slower than that is not tried again


def additions(scenario: OffloadScenario, folder: Path) -> list[Addition]:
    """One of each kind; files of changed servers are written into a folder. Raises FleetcastError."""
    node = _absolute(catalog.node(scenario.cluster.node))
    assert scenario.offload is not None
    drives = node.ssds if scenario.offload.drives is None else scenario.offload.drives
    dram = scenario.offload.host_memory_bytes or float(node.dram_bytes)
    ssd = catalog.ssd(node.ssd)
    return [
        Addition(
            "drive",
            f"a drive more: {drives + 1} x {ssd.name}",
            _offload(scenario, {"drives": drives + 1, **_drive_rates(scenario, node, drives)}),
            most=(drives + 1) / max(1, drives),
        ),
        Addition(
            "memory",
            f"twice the host memory: {2 * dram / 2**30:,.0f} GiB",
            _offload(scenario, {"host_memory_bytes": 2 * dram}),
        ),
        _faster_link(scenario, node, folder),
        _larger_gpu(scenario, node, folder),
    ]


def _faster_link(scenario: OffloadScenario, node: NodeSpec, folder: Path) -> Addition:
    """The next generation of PCIe, whatever the GPU itself can do."""
    if node.pcie not in PCIE[:-1]:
        return Addition("link", "a faster link", None, f"{node.name}: no faster link than {node.pcie} is known")
    link, gpu = PCIE[PCIE.index(node.pcie) + 1], catalog.gpu(node.gpu)
    changed = node.model_copy(update={"pcie": link})
    ends = gpu.pcie in PCIE and PCIE.index(gpu.pcie) < PCIE.index(link)
    remark = f"the {gpu.name} itself ends at {gpu.pcie}" if ends else ""
    found = _on_node(scenario, changed, folder / "faster-link", _link_rates(scenario, node, changed))
    return Addition("link", f"a faster link: {link}", found, remark)


def _larger_gpu(scenario: OffloadScenario, node: NodeSpec, folder: Path) -> Addition:
    """The GPU on a card with the next size of memory; of equal ones the one with most arithmetic."""
    own, name = catalog.gpu(node.gpu), "a GPU with more memory"
    if node.scale_up is not None or node.pcie not in PCIE:
        return Addition("gpu", name, None, f"{node.name}: its GPUs are no cards of their own", replaces=True)
    listed = [catalog.gpu(gpu) for gpu in catalog.names("gpu")]
    larger = [gpu for gpu in listed if _fits_instead(gpu, own)]
    if not larger:
        return Addition("gpu", name, None, f"no card of {own.vendor} with more memory is in the catalog", replaces=True)
    gpu = min(larger, key=lambda one: (one.memory_bytes, -max(one.peak_flop_per_s.values())))
    found = _on_node(
        scenario, node.model_copy(update={"gpu": gpu.name}), folder / "larger-gpu", dict.fromkeys(ON_GPU, None)
    )
    return Addition(
        "gpu",
        f"another GPU: {gpu.name}, {gpu.memory_bytes / 2**30:,.0f} GiB",
        found,
        replaces=True,
        usd_per_gpu_h=catalog.list_price_usd_per_gpu_h(gpu),
    )


def _fits_instead(gpu: GpuSpec, own: GpuSpec) -> bool:
    """A card of the same maker in a PCIe slot, no older, with more memory."""
    card = gpu.vendor == own.vendor and gpu.pcie in PCIE and not gpu.name.endswith("-sxm")
    newer = card and own.pcie in PCIE and PCIE.index(gpu.pcie) >= PCIE.index(own.pcie)
    return newer and gpu.memory_bytes >= MORE * own.memory_bytes


def _offload(scenario: OffloadScenario, changed: dict[str, Any]) -> OffloadScenario:
    assert scenario.offload is not None
    return scenario.model_copy(update={"offload": scenario.offload.model_copy(update=changed)})


def _on_node(scenario: OffloadScenario, node: NodeSpec, folder: Path, rates: dict[str, Any]) -> OffloadScenario:
    """The scenario on a server that is written into a folder; rates: of an inference, in place of those it had."""
    file = write_variation(Variation(node, {}), folder)
    moved = scenario.model_copy(update={"cluster": scenario.cluster.model_copy(update={"node": str(file)})})
    if isinstance(moved, OffloadedInferenceScenario) and rates:
        return _offload(moved, {"rates": moved.offload.rates.model_copy(update=rates)})
    return moved


def _drive_rates(scenario: OffloadScenario, node: NodeSpec, drives: int) -> dict[str, Any]:
    """Rates that were measured of the drives, raised as the data sheets' are by one more."""
    if not isinstance(scenario, OffloadedInferenceScenario) or not drives:
        return {}
    before, after = (tiers(node, drives=count).need_drives() for count in (drives, drives + 1))
    read = after.read_bytes_per_s / before.read_bytes_per_s
    write = after.sustained_write_bytes_per_s / before.sustained_write_bytes_per_s
    factors = {"storage_read_bytes_per_s": read, "storage_write_bytes_per_s": write}
    rates = scenario.offload.rates
    return {"rates": rates.model_copy(update=_scaled(rates, factors))}


def _link_rates(scenario: OffloadScenario, node: NodeSpec, changed: NodeSpec) -> dict[str, Any]:
    """Rates that were measured of copies, raised as the data sheets' are by the faster link."""
    if not isinstance(scenario, OffloadedInferenceScenario):
        return {}
    before, after = tiers(node), tiers(changed)
    factors = {}
    for key in (*UP, *DOWN):
        pinned, way = key == "h2d_bytes_per_s", "h2d" if key in UP else "d2h"
        old, new = (one.copy_bytes_per_s("h2d" if way == "h2d" else "d2h", pinned=pinned) for one in (before, after))
        factors[key] = new / old
    return _scaled(scenario.offload.rates, factors)


def _scaled(rates: OffloadRates, factors: dict[str, float]) -> dict[str, float]:
    """Those rates that are given, times a factor each."""
    given = ((key, getattr(rates, key)) for key in factors)
    return {key: value * factors[key] for key, value in given if value is not None}


def _absolute(node: NodeSpec) -> NodeSpec:
    """The server with the files it names, if any, found from anywhere."""
    named = {key: getattr(node, key) for key in catalog.NODE_PARTS}
    files = {key: str(Path(name).resolve()) for key, name in named.items() if name and name.endswith(".toml")}
    return node.model_copy(update=files)
