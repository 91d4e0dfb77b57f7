"""What a data sheet says about a device: one frozen model a kind, each number with its source.

Units are SI and stand in the names (`_bytes`, `_bytes_per_s`, `_hz`, `_s`, `_w`, `_flop_per_s`); counts are bare.
Bandwidths of links and cards are per direction, never the sum of both.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from hardware_models.dtypes import BYTES_PER_ELEMENT
from hardware_models.errors import UnknownNameError
from hardware_models.provenance import Frozen, Source

Architecture: TypeAlias = Literal["pascal", "volta", "turing", "ampere", "ada", "hopper", "blackwell", "cdna2", "cdna3"]

# The lower bounds catch a wrong unit: no device of a cluster has less than a million bytes, or bytes a second.
Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
CountFromZero: TypeAlias = Annotated[int, Field(ge=0, strict=True)]
Bytes: TypeAlias = Annotated[int, Field(ge=1_000_000)]
Rate: TypeAlias = Annotated[float, Field(ge=1e6, allow_inf_nan=False, strict=True)]
Positive: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False, strict=True)]
FromZero: TypeAlias = Annotated[float, Field(ge=0.0, allow_inf_nan=False, strict=True)]
Seconds: TypeAlias = Annotated[float, Field(gt=0.0, lt=1.0, strict=True)]
# ecmp: by a hash of the flow; static: by its target, as InfiniBand's tables; adaptive: over all, packet by packet
Routing: TypeAlias = Literal["ecmp", "static", "adaptive"]


HOURS = 24  # of a day, by which figures of electricity may differ
NO_SOURCE = Source(grade="assumed", text="no source given")


class Spec(Frozen):
    """A named entry of the catalog; `source` maps "default", a key, or "table.key" to a Source."""

    name: Annotated[str, Field(min_length=1)]
    source: dict[str, Source] = Field(default_factory=lambda: {"default": NO_SOURCE})

    def __hash__(self) -> int:
        """By name, since tables inside have no hash; equal specs have equal names."""
        return hash((type(self), self.name))

    def source_of(self, key: str) -> Source:
        """The source of a field, or of one entry of a table field: source_of("peak_flop_per_s.fp8")."""
        head = key.partition(".")[0]
        if head not in type(self).model_fields:
            raise UnknownNameError(f"source of {self.name}", key, type(self).model_fields)
        return self.source.get(key) or self.source.get(head) or self.source["default"]

    @model_validator(mode="after")
    def _sources_name_fields(self) -> Self:
        if "default" not in self.source:
            raise ValueError("source needs a 'default' entry")
        for key in self.source:
            head, _, entry = key.partition(".")
            table = getattr(self, head, None)
            known = head in type(self).model_fields or head == "default"
            if not known or (entry and not (isinstance(table, dict) and entry in table)):
                raise ValueError(f"source names '{key}', which is no key of this file")
        return self


class GpuSpec(Spec):
    """One device as the driver lists it: an MI250X is two of them, one a die (GCD).

    `peak_flop_per_s` maps a dtype to its dense rate: matrix units, accumulating in fp32 (int32 for int8), for all but
    fp32, which is the vector rate; of a device without matrix units all are. A dtype the hardware lacks has no entry.
    """

    vendor: Literal["nvidia", "amd"]
    architecture: Architecture
    memory_bytes: Bytes  # total as the driver reports it, less than the marketing figure in GiB
    memory_type: str
    memory_bandwidth_bytes_per_s: Rate  # data-sheet peak
    l2_bytes: Bytes  # the last cache before memory: L2, or AMD's Infinity Cache
    sm_count: Count  # streaming multiprocessors, or compute units (CUs) on AMD
    boost_clock_hz: Rate  # highest clock the driver grants the SMs
    matrix_clock_hz: Rate | None = None  # the clock the matrix rates are quoted at, where lower than boost
    tdp_w: Positive  # default power limit of this device
    idle_w: Positive | None = None  # no process on the device
    pcie: str  # link to the host: PCIe or C2C
    scale_up: str | None = None  # NVLink or xGMI link of its usual node; None: it has no such port
    peak_flop_per_s: dict[str, Rate]
    variation_of: str | None = None  # the catalog's device that this one varies: its calibration prices this one

    @field_validator("peak_flop_per_s")
    @classmethod
    def _known_dtypes(cls, peaks: dict[str, float]) -> dict[str, float]:
        if "fp32" not in peaks:
            raise ValueError("needs an 'fp32' entry, the vector rate")
        unknown = sorted(set(peaks) - set(BYTES_PER_ELEMENT))
        if unknown:
            raise ValueError(f"unknown dtype '{unknown[0]}'; known: {', '.join(BYTES_PER_ELEMENT)}")
        return peaks


class CpuSpec(Spec):
    """One socket."""

    cores: Count
    base_clock_hz: Rate
    boost_clock_hz: Rate  # one core alone
    memory_channels: Count
    memory_bandwidth_bytes_per_s: Rate  # channels x transfer rate x bytes a transfer
    tdp_w: Positive
    idle_w: Positive | None = None
    pcie: str  # fastest PCIe link it offers a card
    fp32_flop_per_s: Rate  # vector units at the base clock, all cores


class SsdSpec(Spec):
    """One drive, empty of queue effects: latencies are of one 4 KiB request, IOPS at a deep queue."""

    capacity_bytes: Bytes
    sequential_read_bytes_per_s: Rate
    sequential_write_bytes_per_s: Rate
    sustained_write_bytes_per_s: Rate | None = None  # once a write cache is full; None: the same for ever
    endurance_bytes: Bytes | None = None  # that may be written before it wears out, as it is rated; None: not known
    random_read_iops: Positive  # 4 KiB
    random_write_iops: Positive  # 4 KiB
    read_latency_s: Seconds
    write_latency_s: Seconds
    active_w: Positive
    idle_w: Positive


class NicSpec(Spec):
    """One network card, all its ports together."""

    kind: Literal["infiniband", "ethernet", "efa", "slingshot"]
    bandwidth_bytes_per_s: Rate  # per direction
    latency_s: Seconds  # one way, small message, card to card without a switch
    link: str  # the link one port plugs into
    variation_of: str | None = None  # the catalog's card that this one varies


class LinkSpec(Spec):
    """A kind of link. For switch, pairs and mesh the bandwidth is a device's total to all its peers."""

    kind: Literal["nvlink", "xgmi", "pcie", "c2c", "infiniband", "ethernet"]
    bandwidth_bytes_per_s: Rate  # per direction and device, before protocol overhead
    latency_s: Seconds  # one way, small message
    topology: Literal["switch", "pairs", "mesh", "host"]
    in_switch_reduction: bool = False  # the switch adds up all-reduces itself (SHARP)
    peer_bandwidth_bytes_per_s: Rate | None = None  # mesh: to the nearest peer; None: alike to all
    variation_of: str | None = None  # the catalog's link that this one varies: its calibration prices this one
    original_bandwidth_bytes_per_s: Rate | None = None  # what the ranks would have of that one; None: all

    def beside(self, original: LinkSpec) -> LinkSpec:
        """The link, with what it varies noted."""
        return self.model_copy(update={"original_bandwidth_bytes_per_s": original.bandwidth_bytes_per_s})

    def narrowed(self, bandwidth_bytes_per_s: float) -> LinkSpec:
        """The part of it that some ranks have, and the same part of what it varies."""
        update: dict[str, Any] = {"bandwidth_bytes_per_s": bandwidth_bytes_per_s}
        if self.original_bandwidth_bytes_per_s is not None:
            part = bandwidth_bytes_per_s / self.bandwidth_bytes_per_s
            update["original_bandwidth_bytes_per_s"] = self.original_bandwidth_bytes_per_s * part
        return self.model_copy(update=update)

    @property
    def calibrated_as(self) -> str:
        """The catalog's link whose calibration prices this one."""
        return self.variation_of or self.name


class PcieSwitch(Frozen):
    """A PCIe switch, or a root port that cards share: what hangs under it reaches the rest through one uplink.

    Each number of a GPU or card is its place in the server. The uplink leads to the switch named by `under`, or, where
    that is absent, to the host.
    """

    name: Annotated[str, Field(min_length=1)]
    gpus: tuple[CountFromZero, ...] = ()
    nics: tuple[CountFromZero, ...] = ()
    uplink_bytes_per_s: Rate  # per direction
    under: str | None = None


class NodeSpec(Spec):
    """One server: the unit a cluster is bought in."""

    gpu: str
    gpus: Count
    cpu: str
    cpu_sockets: Count
    dram_bytes: Bytes
    scale_up: str | None = None  # None: the GPUs talk over `pcie`
    scale_up_group: Count  # GPUs that reach each other over scale_up; may span nodes (72 in an NVL72)
    pcie: str  # link of each GPU to the host: PCIe or C2C
    nic: str
    nics: CountFromZero
    ssd: str
    ssds: CountFromZero
    max_power_w: Positive | None = None  # the maker's limit for the whole node
    psu_w: Positive | None = None  # rated watts of all its power supplies; None: by rule
    fan_fraction: Annotated[float, Field(ge=0.0, le=1.0, strict=True)] | None = None  # as in server_parts; None: there
    pcie_switches: tuple[PcieSwitch, ...] | None = None  # None: every GPU and card has the host to itself
    nic_peer_bandwidth_bytes_per_s: Rate | None = None  # a card's to GPUs through the host; None: no less than its own
    variation_of: str | None = None  # the catalog's server that this one varies

    @model_validator(mode="after")
    def _groups_tile_the_node(self) -> Self:
        small, large = sorted((self.gpus, self.scale_up_group))
        if large % small:
            raise ValueError(f"scale_up_group {self.scale_up_group} and gpus {self.gpus} do not divide")
        if self.scale_up is None and self.scale_up_group != 1:
            raise ValueError("scale_up_group must be 1 where scale_up is absent")
        return self

    @model_validator(mode="after")
    def _switches_hold_each_card_once(self) -> Self:
        switches = self.pcie_switches or ()
        for key, count in (("gpus", self.gpus), ("nics", self.nics)):
            placed = [number for switch in switches for number in getattr(switch, key)]
            for number in placed:
                if number >= count or placed.count(number) > 1:
                    raise ValueError(f"pcie_switches: {key} {number} is none of the {count}, or hangs twice")
        above: set[str] = set()
        for switch in switches:
            if switch.name in above or (switch.under is not None and switch.under not in above):
                raise ValueError(f"pcie_switches: '{switch.name}' is there twice, or before the one it is under")
            above.add(switch.name)
        return self


class ClusterSpec(Spec):
    """Equal nodes on one network; keys of the second part are absent where that is a plain tree of two levels."""

    node: str
    nodes: Count
    network: str  # the link each NIC plugs into
    nodes_per_leaf: Count  # nodes under one leaf switch (or under one set of rail switches)
    rail_optimised: bool = False  # NIC i of every node meets on leaf i: same-index GPUs are one hop apart
    oversubscription: Annotated[float, Field(ge=1.0)]  # leaf downlink over uplink bandwidth

    fabric: Literal["fat_tree", "dragonfly"] | None = None  # None: fat_tree
    routing: Routing | None = None  # how a flow chooses among equal paths; None: ecmp
    flows_per_connection: Count | None = None  # that libraries open between two devices, hashed apart; None: 1
    planes: Count | None = None  # networks that meet in servers alone: NIC i is on plane i modulo planes; None: 1
    nodes_per_pod: Count | None = None  # under one set of spines, below core switches; of a dragonfly: in one group
    pod_oversubscription: Annotated[float, Field(ge=1.0)] | None = None  # spine downlink over uplink; None: 1
    links_per_switch_pair: Count | None = None  # dragonfly: between two leaf switches of a group; None: 1
    links_per_group_pair: Count | None = None  # dragonfly: between two groups; None: 1

    @model_validator(mode="after")
    def _parts_tile(self) -> Self:
        if self.nodes_per_pod is not None and self.nodes_per_pod % self.nodes_per_leaf:
            raise ValueError(f"nodes_per_leaf {self.nodes_per_leaf} does not divide nodes_per_pod {self.nodes_per_pod}")
        if self.fabric == "dragonfly" and (self.nodes_per_pod is None or self.pod_oversubscription is not None):
            raise ValueError("a dragonfly needs nodes_per_pod, the nodes of one group, and no pod_oversubscription")
        if self.fabric != "dragonfly" and (self.links_per_switch_pair or self.links_per_group_pair):
            raise ValueError("links_per_switch_pair and links_per_group_pair are of a dragonfly; leave them out")
        if self.pod_oversubscription is not None and self.nodes_per_pod is None:
            raise ValueError("pod_oversubscription needs nodes_per_pod, the nodes under one set of spines")
        return self


class PriceTable(Spec):
    """List prices of one day, by GPU; a GPU-hour includes its share of the server."""

    date: datetime.date
    usd_per_gpu_h: dict[str, Positive]


class EnergyPriceTable(Spec):
    """Electricity prices of one day, by region, and how much more than its computers a site draws, by kind of site."""

    date: datetime.date
    usd_per_kwh: dict[str, Positive]
    pue: dict[str, Annotated[float, Field(ge=1.0, le=10.0, strict=True)]]  # power usage effectiveness
    # of regions with time of use, from local midnight
    usd_per_kwh_by_hour: dict[str, tuple[FromZero, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _hours_have_the_mean_of_their_region(self) -> Self:
        for region, prices in self.usd_per_kwh_by_hour.items():
            if len(prices) != HOURS:
                raise ValueError(f"usd_per_kwh_by_hour.{region} has {len(prices)} prices; give one for each hour")
            mean = sum(prices) / HOURS
            if region not in self.usd_per_kwh or abs(mean / self.usd_per_kwh[region] - 1.0) > 0.01:
                raise ValueError(
                    f"usd_per_kwh_by_hour.{region}: its mean over the day is {mean:.4g}; give usd_per_kwh.{region} that"
                )
        return self

    def hourly(self, region: str) -> tuple[float, ...]:
        """The price of each hour, or one for all; raises UnknownNameError for a region that is not in the table."""
        if region not in self.usd_per_kwh:
            raise UnknownNameError(f"region in {self.name}", region, self.usd_per_kwh)
        return self.usd_per_kwh_by_hour.get(region, (self.usd_per_kwh[region],))
