"""Collectives alone on their links, as NCCL and serving engines run them; parameters are fitted to measurements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_models.collective_times import (
    NETWORKS,
    CustomParameters,
    NcclParameters,
    Times,
    achieved_bytes_per_s,
    custom_times,
    nccl_times,
)
from hardware_models.errors import UnknownNameError
from hardware_models.link_parameters import Cost, custom_cost, nccl_cost
from hardware_models.ops import Size
from hardware_models.original import MIXED, bounded_seconds, link_standing, original_link
from hardware_models.provenance import GRADES, Source
from hardware_models.ring_protocols import protocol_limits

if TYPE_CHECKING:
    from hardware_models.specs import LinkSpec

Floats = NDArray[np.float64]
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
MIB = float(1 << 20)
CUSTOM_MAX_RANKS = 8  # vLLM, TensorRT-LLM: one server's
CUSTOM_LIMIT_BYTES = 8 * MIB  # vLLM's custom_all_reduce, below
SWITCH_LIMITS_BYTES = {2: 64 * MIB, 3: 32 * MIB, 4: 32 * MIB}  # vLLM's symmetric memory, compute capability 9.0, below
SWITCH_LIMIT_BYTES = 64 * MIB  # of more ranks
# No published timing of a whole send exists; senders alone (Vidur, A100 and H100, 32 to 64 MB) took 0.84 of it.
SEND_SPREAD = 0.17


@dataclass(frozen=True, slots=True)
class Fabric:
    """`ranks` devices joined by equal links, each with its full bandwidth in each direction."""

    link: LinkSpec
    ranks: int
    custom_all_reduce: bool = True  # serving engines run their own small all-reduces where peers are mapped
    peer_access: bool = False  # on a host's bus: devices reach each other's memory without the host's

    @property
    def hop_s(self) -> float:
        """One step of a small message: software per hop and wire latency."""
        wire_s = self.link.latency_s if self.link.kind in NETWORKS else 0.0
        return self._nccl.parameters.hop_s + wire_s

    @property
    def bytes_per_s(self) -> float:
        """Achieved bandwidth of one direction of one device's link in long transfers."""
        return float(achieved_bytes_per_s(max(self.ranks, 2), self.link, self._nccl.parameters))

    @property
    def source(self) -> Source:
        """Where these times come from, and their grade: the worse of the libraries that may run."""
        sources = [self._nccl.source]
        if self._custom is not None:
            sources.append(self._custom.source)
        return _worst(sources)

    def seconds(self, kind: str, payload_bytes: Size, inside_s: Floats | float = 0.0) -> Floats:
        """Time of one collective (or of one send).

        kind: one of KINDS.
        payload_bytes: the buffer one rank starts with (all_gather: the gathered whole). Raises UnknownNameError.
        inside_s: of a ring that passes more devices at each rank, what those steps take.
        """
        payload = _checked(kind, payload_bytes)
        if self.ranks == 1 and kind != "send_recv":
            return np.zeros_like(payload)
        own = self._nccl_and_custom(kind, payload, inside_s)[0].seconds
        original = original_link(self.link)
        if original is None or (stands := link_standing(self.link, original)) == MIXED:
            return own
        return bounded_seconds(own, replace(self, link=original).seconds(kind, payload, inside_s), stands)

    def step_s(self, protocol: str) -> float:
        """One step of a ring by a protocol of NCCL's; LL128 is LL's where devices do not run it."""
        p = self._nccl.parameters
        step_s = {"ll": p.hop_s, "ll128": p.ll128_hop_s, "simple": p.simple_hop_s}[protocol]
        return p.hop_s if step_s is None else step_s

    def sigma(self, kind: str, payload_bytes: Size) -> Floats:
        """Standard deviation of log(measured / predicted) of `seconds`; arguments as there."""
        payload = _checked(kind, payload_bytes)
        times, custom = self._nccl_and_custom(kind, payload)
        sigma = self._nccl.sigma(times, payload, max(self.ranks, 2))
        if kind == "send_recv":
            return np.hypot(sigma, SEND_SPREAD)
        if self._custom is None:
            return sigma
        return np.asarray(np.where(custom, self._custom.sigma(times, payload, self.ranks), sigma))

    def _nccl_and_custom(
        self, kind: str, payload: Floats, inside_s: Floats | float = 0.0
    ) -> tuple[Times, NDArray[np.bool_]]:
        """The faster of the libraries that may run, and where that is the engine's own."""
        times = nccl_times(kind, payload, max(self.ranks, 2), self.link, self._nccl.parameters, inside_s)
        if kind != "all_reduce" or self._custom is None:
            return times, np.zeros(payload.shape, bool)
        own = custom_times(payload, self.ranks, self.link, self._custom.parameters)
        chosen = (payload < custom_limit_bytes(self.link, self.ranks)) & (own.seconds < times.seconds)
        return own.where(chosen, times), chosen

    @property
    def _nccl(self) -> Cost[NcclParameters]:
        host = self.link.topology == "host"
        link = self.link.calibrated_as
        return nccl_cost(link, self.link.kind, mapped=self.peer_access and host, host=host).of(self.link)

    @property
    def _custom(self) -> Cost[CustomParameters] | None:
        """The engine's own all-reduce, if every rank maps every other's memory."""
        near = self.link.kind not in NETWORKS and 2 <= self.ranks <= CUSTOM_MAX_RANKS
        mapped = self.link.topology in ("switch", "mesh") or self.ranks == 2
        if not (self.custom_all_reduce and near and mapped):
            return None
        cost = custom_cost(self.link.calibrated_as, self.link.kind)
        return None if cost is None else cost.of(self.link)


@dataclass(frozen=True, slots=True)
class HierarchicalFabric:
    """Groups of devices on a fast fabric, joined rank by rank over a slower one.

    Between servers every device has a card: NCCL's rings cross as many times as a group has devices, each with a part
    of the payload, while other parts move inside. Each ring passes through all devices, so its steps are as many as
    ranks; trees pass through each server once. Over a host's bus one ring passes through all devices.
    """

    inner: Fabric
    outer: Fabric

    @property
    def source(self) -> Source:
        """The worse of both levels'."""
        return _worst([self.inner.source, self.outer.source])

    def seconds(self, kind: str, payload_bytes: Size) -> Floats:
        """Time of one collective over all inner x outer ranks; arguments as of Fabric.seconds."""
        payload = _checked(kind, payload_bytes)
        if kind == "send_recv":
            return self.outer.seconds(kind, payload)
        if self._bus is not None:
            return self._bus.seconds(kind, payload)
        if kind == "all_to_all":
            leaving = payload * (self.outer.ranks - 1) / self.outer.ranks
            inside = self.inner.seconds(kind, payload - leaving)
            return np.maximum(inside, self.outer.seconds(kind, payload))
        return self._overlapped(kind, payload)

    def sigma(self, kind: str, payload_bytes: Size) -> Floats:
        """Standard deviation of log(measured / predicted) of `seconds`: the less sure level's; arguments as there."""
        payload = _checked(kind, payload_bytes)
        if self._bus is not None and kind != "send_recv":
            return self._bus.sigma(kind, payload)
        outside = self.outer.sigma(kind, payload / self.inner.ranks)
        if kind == "send_recv" or self.inner.ranks == 1:
            return outside
        return np.maximum(outside, self.inner.sigma(kind, payload))

    @property
    def _bus(self) -> Fabric | None:
        """All devices on one host's bus; groups with a fast link of their own are of kinds that map each other there
        (measured: A100 and H100 in bridged pairs, 0.77 of a PCIe link each among four).
        """
        if self.inner.ranks == 1 or self.outer.link.topology != "host":
            return None
        return Fabric(self.outer.link, self.inner.ranks * self.outer.ranks, self.outer.custom_all_reduce, True)

    def _overlapped(self, kind: str, payload: Floats) -> Floats:
        """Latencies of both levels, then the slower level's bytes: a long message moves through both at once."""
        halves = ("reduce_scatter", "all_gather") if kind == "all_reduce" else (kind,)
        ranks, nothing = self.inner.ranks * self.outer.ranks, np.zeros_like(payload)
        # one ring through all ranks crosses to the next server with (ranks - 1) / ranks of the payload
        detour = (ranks - 1) / ranks * self.outer.ranks / max(self.outer.ranks - 1, 1)
        across = self.outer.seconds(kind, payload / self.inner.ranks * detour, self._passed_s(kind, payload))
        inside = np.sum([self.inner.seconds(half, payload) for half in halves], axis=0)
        across_latency = self.outer.seconds(kind, nothing, self._passed_s(kind, nothing))
        inside_latency = np.sum([self.inner.seconds(half, nothing) for half in halves], axis=0)
        slower = np.maximum(inside - inside_latency, across - across_latency)
        return np.asarray(inside_latency + across_latency + slower)

    def _passed_s(self, kind: str, payload: Floats) -> Floats:
        """Steps of a ring inside servers, but for those of one server."""
        passes = 2 if kind == "all_reduce" else 1
        steps = passes * (self.inner.ranks - 1) * (self.outer.ranks - 1)
        if not steps:
            return np.zeros_like(payload)
        ll_up_to, simple_from = protocol_limits(
            passes, (self.inner.link, self.inner.ranks), (self.outer.link, self.outer.ranks)
        )
        # what a smaller message took, a larger one takes at least
        hops = np.maximum.accumulate([steps * self.inner.step_s(protocol) for protocol in ("ll", "ll128", "simple")])
        return np.asarray(np.where(payload <= ll_up_to, hops[0], np.where(payload <= simple_from, hops[1], hops[2])))


AnyFabric = Fabric | HierarchicalFabric


def custom_limit_bytes(link: LinkSpec, ranks: int) -> float:
    """Size below which a serving engine runs its own all-reduce."""
    if not link.in_switch_reduction:
        return CUSTOM_LIMIT_BYTES
    return SWITCH_LIMITS_BYTES.get(ranks, SWITCH_LIMIT_BYTES)


def _worst(sources: list[Source]) -> Source:
    return max(sources, key=lambda source: GRADES.index(source.grade))


def _checked(kind: str, payload_bytes: Size) -> Floats:
    if kind not in KINDS:
        raise UnknownNameError("collective", kind, KINDS)
    return np.asarray(payload_bytes, float)
