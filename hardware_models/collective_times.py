"""Seconds of collectives by algorithm and protocol: launch + steps x hop + bytes / bandwidth (alpha-beta; Hockney,
1994; Thakur et al., 2005), where the library, not the shortest time, decides which protocol runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from hardware_models.errors import FleetcastError

if TYPE_CHECKING:
    from hardware_models.specs import LinkSpec

Floats = NDArray[np.float64]
NETWORKS = ("infiniband", "ethernet")
RINGS = ("all_reduce", "all_gather", "reduce_scatter")

# NCCL chooses a protocol by a cost model of its own: base latency + steps x hop + bytes / bandwidth, with the constants
# below (NCCL 2.2x, src/graph/tuning.cc; rings). They say what it chooses, never how long that takes: it takes Simple to
# be ten microseconds faster than it is, so its times jump where it switches.
BELIEVED_BASE_S = {"ll": 6.6e-6, "ll128": 14.0e-6, "simple": 8.4e-6}
BELIEVED_HOP_S = {
    "nvlink": {"ll": 0.6e-6, "ll128": 1.9e-6, "simple": 3.4e-6},
    "pcie": {"ll": 1.0e-6, "ll128": 2.5e-6, "simple": 5.7e-6},
    "network": {"ll": 2.7e-6, "ll128": 4.0e-6, "simple": 14.0e-6},
}
BELIEVED_SHARE = 0.8  # of the datasheet: 240 of 300 GB/s on A100, 360 of 450 GB/s on H100
BELIEVED_LL_SHARE = (
    0.5  # of Simple's, and at most so much on a generation of NVLink (llMaxBws: V100, A100, H100, B200):
)
BELIEVED_LL_BYTES_PER_S = {"nvlink2": 39e9, "nvlink3": 87.7e9, "nvlink4": 141e9, "nvlink5": 282e9}
LL128_SHARE = 120 / 128  # eight of every 128 bytes are its flags; 0.92 in NCCL's own model
BELIEVED_LL128_SHARE = 0.92


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of collectives, split into what bytes take and the rest; arrays of one shape."""

    fixed_s: Floats
    wire_s: Floats

    @property
    def seconds(self) -> Floats:
        """Both together."""
        return self.fixed_s + self.wire_s

    def where(self, chosen: NDArray[np.bool_], other: Times) -> Times:
        """This where chosen, other elsewhere."""
        fixed = np.where(chosen, self.fixed_s, other.fixed_s)
        return Times(fixed, np.where(chosen, self.wire_s, other.wire_s))

    def or_faster(self, other: Times) -> Times:
        """The faster of two, point by point."""
        return self.where(self.seconds <= other.seconds, other)

    def or_slower(self, other: Times) -> Times:
        """The slower of two, point by point."""
        return self.where(self.seconds >= other.seconds, other)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameters:
    @classmethod
    def of(cls, table: Mapping[str, float], where: str) -> Self:
        """Checked parameters of a file; raises FleetcastError for a missing, unknown or impossible one."""
        known = {field.name: field for field in fields(cls)}
        needed = [name for name, field in known.items() if field.default is not None]
        wrong = [name for name in table if name not in known] + [name for name in needed if name not in table]
        if wrong:
            raise FleetcastError(f"{where}: {wrong[0]} is missing or unknown; fit the link anew")
        for name, value in table.items():
            if not value > 0 or (name.endswith("_fraction") and value > 1):
                limit = "in (0, 1]" if name.endswith("_fraction") else "positive"
                raise FleetcastError(f"{where}: {name} = {value} must be {limit}; fit the link anew")
        return cls(**table)


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclParameters(_Parameters):
    """NCCL on one link; fractions are of the link's datasheet bandwidth, a direction and device.

    LL (flags beside every 4 bytes): launch_s, hop_s, ll_fraction; `spread` is how much slower its steps get once a
    message is large enough for all channels, which is spread_bytes a rank. LL128 (where devices map each other over
    NVLink): ll128_launch_s, ll128_hop_s. Simple (buffers and fences): simple_launch_s, simple_hop_s, wire_fraction.
    A rank's own share is copied or added on the device, at own_ratio times the wire's rate.
    Point to point: p2p_launch_s, peer_s a peer, and until it has ramp_s behind it, channel_fraction a peer.
    In the switch (NVLS): switch_launch_s, switch_fraction. sharing: the rate falls as (2 / ranks)^sharing where
    devices reach each other through one host; 1 is a path all share. Trees between servers, with Simple: tree_hop_s,
    in which a chunk fills its buffer, and tree_fraction; as rings, where absent.
    """

    launch_s: float
    hop_s: float
    spread: float
    spread_bytes: float
    ll_fraction: float
    ll_own_ratio: float
    simple_launch_s: float
    simple_hop_s: float
    wire_fraction: float
    own_ratio: float
    p2p_launch_s: float
    peer_s: float
    channel_fraction: float
    ramp_s: float
    p2p_own_ratio: float
    fill_ratio: float
    fill_s: float
    ll128_launch_s: float | None = None
    ll128_hop_s: float | None = None
    switch_launch_s: float | None = None
    switch_fraction: float | None = None
    sharing: float | None = None
    tree_hop_s: float | None = None
    tree_fraction: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomParameters(_Parameters):
    """All-reduce kernels of a serving engine, in a graph: one shot, two shots, and through the switch (multimem)."""

    launch_s: float
    peer_s: float
    one_shot_fraction: float
    two_shot_launch_s: float
    two_shot_fraction: float
    switch_launch_s: float | None = None
    switch_fraction: float | None = None


def nccl_times(
    kind: str, payload: Floats, ranks: Floats | int, link: LinkSpec, p: NcclParameters, inside_s: Floats | float = 0.0
) -> Times:
    """NCCL's collectives; arrays broadcast.

    payload: bytes that one rank starts with (all_gather: the gathered whole); ranks: at least 2. inside_s: of a ring
    that passes more devices at each rank, what those steps take.
    """
    n = np.asarray(ranks, float)
    if kind not in RINGS:
        return _peer_to_peer(kind, payload, n, link, p)
    times = _ring(kind, payload, n, link, p)
    times = Times(times.fixed_s + inside_s, times.wire_s)
    if kind != "all_reduce":
        return times
    if link.kind in NETWORKS:
        times = times.or_faster(_tree(payload, n, link, p))
    if link.in_switch_reduction and p.switch_fraction is not None and p.switch_launch_s is not None:
        switch = _in_switch(payload, n, link, p.switch_launch_s, p.switch_fraction)
        times = switch.where((n > 2) & (switch.seconds < times.seconds), times)
    return times


def achieved_bytes_per_s(ranks: Floats | int, link: LinkSpec, p: NcclParameters) -> Floats:
    """Bandwidth of one direction of one device's link in long transfers among `ranks`."""
    rate = np.asarray(p.wire_fraction * link.bandwidth_bytes_per_s)
    if p.sharing is not None:
        rate = rate * np.minimum(1.0, 2.0 / np.asarray(ranks, float)) ** p.sharing
    return rate


def custom_times(payload: Floats, ranks: Floats | int, link: LinkSpec, p: CustomParameters) -> Times:
    """A serving engine's own all-reduce, by its fastest kernel; arrays broadcast."""
    n = np.asarray(ranks, float)
    wire = payload / link.bandwidth_bytes_per_s
    gather = (n - 1) * p.peer_s + 0.0 * wire
    one = Times(p.launch_s + gather, (n - 1) * wire / p.one_shot_fraction)
    two = Times(p.two_shot_launch_s + gather, 2 * (n - 1) / n * wire / p.two_shot_fraction)
    times = one.where((n <= 2) | (one.seconds <= two.seconds), two)
    if link.in_switch_reduction and p.switch_fraction is not None and p.switch_launch_s is not None:
        switch = _in_switch(payload, n, link, p.switch_launch_s, p.switch_fraction)
        times = switch.where((n > 2) & (switch.seconds < times.seconds), times)
    return times


def _in_switch(payload: Floats, n: Floats, link: LinkSpec, launch_s: float, fraction: float) -> Times:
    """A rank sends all its bytes once and its reduced share once more, to everyone (NVLink SHARP)."""
    wire = payload * (1 + 1 / n) / (fraction * link.bandwidth_bytes_per_s)
    return Times(launch_s + 0.0 * wire, wire)


def medium(link: LinkSpec) -> str:
    """What NCCL's cost model takes a link to be."""
    return "network" if link.kind in NETWORKS else "pcie" if link.kind == "pcie" else "nvlink"


def _wire_latency_s(link: LinkSpec) -> float:
    """Of a network, on top of each fitted step; inside a server the fitted step holds it."""
    return link.latency_s if link.kind in NETWORKS else 0.0


def _ring(kind: str, payload: Floats, n: Floats, link: LinkSpec, p: NcclParameters) -> Times:
    """The protocol NCCL chooses at each size. What a smaller message took, a larger one takes at least: where NCCL
    leaves a protocol too late, the time it ended with holds on.
    """
    steps = 2 * (n - 1) if kind == "all_reduce" else n - 1
    low, high = _switch_points(steps, n, link, p)
    ll = _low_latency(np.minimum(payload, low), steps, n, link, p)
    simple = _simple(payload, steps, n, link, p)
    times = simple.or_slower(ll).where(payload > high, ll)
    if p.ll128_launch_s is not None and p.ll128_hop_s is not None:
        flagged = _flagged(np.minimum(payload, high), steps, n, link, p, p.ll128_launch_s, p.ll128_hop_s)
        times = times.or_slower(flagged).where((payload > low) & (high > low), times)
    return times


def _switch_points(steps: Floats, n: Floats, link: LinkSpec, p: NcclParameters) -> tuple[Floats, Floats]:
    """Bytes up to which NCCL runs LL, and beyond which it runs Simple; LL128 between them if they differ."""
    hops_s = BELIEVED_HOP_S[medium(link)]
    ring = BELIEVED_SHARE * link.bandwidth_bytes_per_s
    low = min(BELIEVED_LL_SHARE * ring, BELIEVED_LL_BYTES_PER_S.get(link.calibrated_as.split("-")[0], np.inf))
    rates = {"ll": low, "ll128": BELIEVED_LL128_SHARE * ring, "simple": ring}
    fixed = {name: BELIEVED_BASE_S[name] + steps * hops_s[name] for name in rates}
    slope = {name: steps / n / rate for name, rate in rates.items()}

    def crossing(first: str, then: str) -> Floats:
        return np.maximum(0.0, (fixed[then] - fixed[first]) / (slope[first] - slope[then]))

    direct = crossing("ll", "simple")
    if p.ll128_launch_s is None:
        return direct, direct
    early, late = crossing("ll", "ll128"), crossing("ll128", "simple")
    between = early < late
    return np.where(between, early, direct), np.where(between, late, direct)


def _low_latency(payload: Floats, steps: Floats, n: Floats, link: LinkSpec, p: NcclParameters) -> Times:
    spread = 1.0 + p.spread * np.minimum(1.0, payload / (n * p.spread_bytes))
    fixed = (p.launch_s + steps * p.hop_s) * spread + steps * _wire_latency_s(link)
    rate = achieved_bytes_per_s(n, link, p) * p.ll_fraction / p.wire_fraction
    return Times(fixed, (steps + 1 / p.ll_own_ratio) / n * payload / rate)


def _flagged(
    payload: Floats, steps: Floats, n: Floats, link: LinkSpec, p: NcclParameters, launch_s: float, hop_s: float
) -> Times:
    rate = achieved_bytes_per_s(n, link, p)
    fixed = launch_s + steps * (hop_s + _wire_latency_s(link))
    return Times(fixed + 0.0 * payload, (steps / LL128_SHARE + 1 / p.own_ratio) / n * payload / rate)


def _simple(payload: Floats, steps: Floats, n: Floats, link: LinkSpec, p: NcclParameters) -> Times:
    rate = achieved_bytes_per_s(n, link, p)
    fixed = p.simple_launch_s + steps * (p.simple_hop_s + _wire_latency_s(link))
    fill = _fill(steps / n * payload, link, p)
    return Times(fixed + fill, (steps + 1 / p.own_ratio) / n * payload / rate)


def _fill(moved: Floats, link: LinkSpec, p: NcclParameters) -> Floats:
    """Extra seconds of a message that does not keep all channels' buffers full yet."""
    slope_s = moved / (p.fill_ratio * link.bandwidth_bytes_per_s)
    return slope_s * p.fill_s / (slope_s + p.fill_s)


def _tree(payload: Floats, n: Floats, link: LinkSpec, p: NcclParameters) -> Times:
    """Double binary trees, pipelined: every byte goes up once and down once (Sanders et al., 2009). Between servers
    only: inside one, NCCL's trees are chains, which rings beat.
    """
    steps, rate = 2 * np.ceil(np.log2(n)), achieved_bytes_per_s(n, link, p)
    wire_s = _wire_latency_s(link)
    slower = 1.0 if p.tree_fraction is None else p.wire_fraction / p.tree_fraction
    hop_s = p.simple_hop_s if p.tree_hop_s is None else p.tree_hop_s
    simple = Times(p.simple_launch_s + steps * (hop_s + wire_s) + 0.0 * payload, slower * 2 * payload / rate)
    low = Times(
        p.launch_s + steps * (p.hop_s + wire_s) + 0.0 * payload, 2 * payload / rate * p.wire_fraction / p.ll_fraction
    )
    return low.or_faster(simple)


def _peer_to_peer(kind: str, payload: Floats, n: Floats, link: LinkSpec, p: NcclParameters) -> Times:
    """Sends and receives, to all peers at once: each peer has one channel until the message earns it more."""
    one_send = kind == "send_recv"
    rate, wire_s = achieved_bytes_per_s(np.minimum(n, 2) if one_send else n, link, p), _wire_latency_s(link)
    each = payload if one_send else payload / n
    moved = payload if one_send else (n - 1) / n * payload + payload / n / p.p2p_own_ratio
    peers = np.ones_like(n) if one_send else n - 1
    ramp = np.minimum(each / (p.channel_fraction * link.bandwidth_bytes_per_s), p.ramp_s)
    return Times(p.p2p_launch_s + peers * p.peer_s + wire_s + ramp + _fill(moved, link, p), moved / rate)
