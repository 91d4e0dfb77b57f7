"""A server's memory below its GPUs: host memory, links to it, drives, and what crosses what on the way.

A copy crosses links at once and shares them with all else that does: `Tiers.links` has their names and bandwidths,
`route` the names that a copy crosses, so that whoever writes a task graph adds the same links and loses no sharing.
A drive does one thing at a time: reads and writes take turns on it, which is assumed of flash under large blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from hardware_models import catalog
from hardware_models.cpu_kernels import CpuKernels
from hardware_models.errors import ImpossibleError
from hardware_models.provenance import Source
from hardware_models.specs import NodeSpec, SsdSpec
from hardware_models.tier_rates_spec import TierRatesSpec
from hardware_models.topology.inside import PcieTree
from hardware_models.topology.links import LinkTable

Way: TypeAlias = Literal["h2d", "d2h"]
DRAM = "host memory"
BLOCK_BYTES = 4096.0  # of a random request, as data sheets count them


@dataclass(frozen=True, slots=True)
class Route:
    """Of one transfer: links that it crosses (one twice, where its bytes cross twice), and its first byte's seconds."""

    links: tuple[str, ...]
    bytes_per_s: float  # alone
    latency_s: float


@dataclass(frozen=True, slots=True)
class Drives:
    """Drives that are read and written as one (striped), through the operating system's asynchronous interface."""

    spec: SsdSpec
    count: int
    read_bytes_per_s: float  # all together, large blocks
    write_bytes_per_s: float
    sustained_write_bytes_per_s: float  # once caches are full
    capacity_bytes: float

    @property
    def raw_read_bytes_per_s(self) -> float:
        """Of requests to drives' blocks past the file system: taken to reach the data sheets."""
        return self.count * self.spec.sequential_read_bytes_per_s

    @property
    def raw_write_bytes_per_s(self) -> float:
        """The same of writes, once caches are full."""
        return self.count * (self.spec.sustained_write_bytes_per_s or self.spec.sequential_write_bytes_per_s)

    def seconds(self, read_bytes: float, write_bytes: float = 0.0, *, sustained: bool = True) -> float:
        """Of reads and writes that take turns."""
        write = self.sustained_write_bytes_per_s if sustained else self.write_bytes_per_s
        return read_bytes / self.read_bytes_per_s + (write_bytes / write if write_bytes else 0.0)

    def random_bytes_per_s(self, block_bytes: float, *, depth: float = np.inf, write: bool = False) -> float:
        """Of requests of so many bytes, so many of them at a time over all drives (Little's law)."""
        spec = self.spec
        iops, latency_s = spec.random_read_iops, spec.read_latency_s
        if write:
            iops, latency_s = spec.random_write_iops, spec.write_latency_s
        large = self.sustained_write_bytes_per_s if write else self.read_bytes_per_s
        requests = max(1.0, block_bytes / BLOCK_BYTES)  # one of many blocks counts as that many
        by_depth = depth / (latency_s + block_bytes * self.count / large) * block_bytes
        return min(large, self.count * iops * block_bytes / requests, by_depth)


@dataclass(frozen=True, slots=True)
class Tiers:
    """Of one server; figures of links are per direction, in bytes/s."""

    node: NodeSpec
    rates: TierRatesSpec
    cpu: CpuKernels
    drives: Drives | None  # None: the server has none
    links: dict[str, float]  # name -> bytes/s, all that copies and kernels share
    _copies: dict[tuple[Way, int], Route] = field(repr=False)

    @property
    def dram_bytes(self) -> float:
        """Of host memory."""
        return float(self.node.dram_bytes)

    @property
    def dram_bytes_per_s(self) -> float:
        """Of host memory, shared by CPU kernels, copies, drives and cards."""
        return self.links[DRAM]

    def route(self, way: Way, gpu: int = 0, *, pinned: bool = True) -> Route:
        """Of copies between a GPU and its host; a pageable one crosses host memory twice more, through a buffer."""
        pinned_route = self._copies[way, gpu]
        if pinned:
            return pinned_route
        rate = catalog.link(self.node.pcie).bandwidth_bytes_per_s * self.rates.pageable_fraction
        return Route((*pinned_route.links, DRAM, DRAM), min(rate, pinned_route.bytes_per_s), pinned_route.latency_s)

    def copy_bytes_per_s(self, way: Way, gpus: int = 1, *, pinned: bool = True) -> float:
        """Of each of the first so many GPUs, all copying that way at once."""
        routes = [self.route(way, gpu, pinned=pinned) for gpu in range(gpus)]
        crossing: dict[str, int] = {}
        for link in (link for route in routes for link in route.links):
            crossing[link] = crossing.get(link, 0) + 1
        shared = (self.links[link] / count for link, count in crossing.items())
        return min(*shared, *(route.bytes_per_s for route in routes))

    def storage_bytes_per_s(self, *, read: bool, direct: bool = False) -> float:
        """Of all drives together; direct: to or from a GPU's memory (GPUDirect Storage), else to or from the host's.

        Raises ImpossibleError where the server has no drives.
        """
        drives = self.need_drives()
        if read:
            return drives.read_bytes_per_s * (self.rates.direct_read_fraction if direct else 1.0)
        return drives.sustained_write_bytes_per_s * (self.rates.direct_write_fraction if direct else 1.0)

    def need_drives(self) -> Drives:
        """The drives; raises ImpossibleError where there are none."""
        if self.drives is None:
            raise ImpossibleError(f"cluster.node: {self.node.name} has no drives; keep everything in host memory")
        return self.drives

    def sources(self) -> dict[str, Source]:
        """Of each figure, by what it is of."""
        cpu, rates = self.node.cpu, self.rates
        known = self.node.pcie in rates.pinned_bytes_per_s
        pinned = f"pinned_bytes_per_s.{self.node.pcie}" if known else "other_pinned_fraction"
        found = {
            "host memory": rates.source_of("cpu_dram_fraction" if cpu in rates.cpu_dram_fraction else "dram_fraction"),
            "copies": rates.source_of(pinned),
            "CPU": rates.source_of(
                "adam_parameters_per_s" if cpu in rates.adam_parameters_per_s else "process_bytes_per_s"
            ),
        }
        if self.drives is not None:
            found["drives"] = self.drives.spec.source_of("sequential_write_bytes_per_s")
        return found


def tiers(
    node: NodeSpec, *, drives: int | None = None, dram_bytes: float | None = None, adam: float | None = None
) -> Tiers:
    """Of a server; drives, dram_bytes, adam (parameters/s of a process): in place of its own."""
    changed = {key: value for key, value in (("ssds", drives), ("dram_bytes", dram_bytes)) if value is not None}
    node = node.model_copy(update=changed) if changed else node
    rates = catalog.tier_rate()
    cpu = CpuKernels(node, rates, adam)
    links = {DRAM: cpu.dram_bytes_per_s}
    copies = _copies(node, rates, links)
    return Tiers(node, rates, cpu, _drives(node, rates), links, copies)


def _copies(node: NodeSpec, rates: TierRatesSpec, links: dict[str, float]) -> dict[tuple[Way, int], Route]:
    """Routes of every GPU both ways; adds their links."""
    bus = catalog.link(node.pcie)
    alone = rates.pinned_bytes_per_s.get(node.pcie, bus.bandwidth_bytes_per_s * rates.other_pinned_fraction)
    reached = alone / bus.bandwidth_bytes_per_s  # of uplinks too, which carry the same packets
    table = LinkTable()
    tree = PcieTree(node, 1, table)
    found: dict[tuple[Way, int], Route] = {}
    for gpu in range(node.gpus):
        both = f"{bus.name} both ways {gpu}"
        links[both] = 2.0 * alone * rates.both_ways_fraction
        for way, path in (("h2d", tree.from_host(gpu)), ("d2h", tree.to_host(gpu))):
            crossed = {table.name(link): table[link] * reached for link in path}
            links.update(crossed)
            route = Route((*crossed, both, DRAM), min(*crossed.values(), links[DRAM]), table.latency_s(path))
            found["h2d" if way == "h2d" else "d2h", gpu] = route
    return found


def _drives(node: NodeSpec, rates: TierRatesSpec) -> Drives | None:
    if not node.ssds:
        return None
    spec, count = catalog.ssd(node.ssd), node.ssds
    by_count = np.log2(rates.drives)
    read = float(np.interp(np.log2(count), by_count, rates.drives_read_fraction))
    write = float(np.interp(np.log2(count), by_count, rates.drives_write_fraction))
    sustained = spec.sustained_write_bytes_per_s or spec.sequential_write_bytes_per_s
    return Drives(
        spec,
        count,
        count * read * spec.sequential_read_bytes_per_s,
        count * write * spec.sequential_write_bytes_per_s,
        count * write * sustained,
        float(count * spec.capacity_bytes),
    )
