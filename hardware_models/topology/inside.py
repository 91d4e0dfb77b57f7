"""Paths inside a server: NVLink or xGMI (switch, pairs, mesh), and the PCIe tree that devices and cards share."""

from __future__ import annotations

from typing import TypeAlias

from hardware_models import catalog
from hardware_models.specs import LinkSpec, NodeSpec, PcieSwitch
from hardware_models.topology.links import LinkTable

Path: TypeAlias = tuple[int, ...]


class ScaleUp:
    """Links of scale-up groups: one to the switch and back a device, or one from each device to each other."""

    def __init__(self, node: NodeSpec, devices: int, links: LinkTable) -> None:
        self.group = node.scale_up_group if node.scale_up is not None else 1
        if node.scale_up is None or self.group == 1:
            return
        spec = catalog.link(node.scale_up)
        self._direct = spec.topology != "switch"
        if not self._direct:
            self._up = links.add(f"{spec.name} up", devices, spec.bandwidth_bytes_per_s, spec.latency_s)
            self._down = links.add(f"{spec.name} down", devices, spec.bandwidth_bytes_per_s)
            return
        near, far = peer_bandwidths(spec, self.group)
        self._near = links.add(f"{spec.name} near", devices, near, spec.latency_s)
        self._far = links.add(f"{spec.name} far", devices * (self.group - 1), far, spec.latency_s)

    def joins(self, source: int, target: int) -> bool:
        """Do two devices reach each other so?"""
        return source // self.group == target // self.group

    def path(self, source: int, target: int) -> Path:
        """Between two devices of one group."""
        if source == target:
            return ()
        if not self._direct:
            return (self._up + source, self._down + target)
        own, other = source % self.group, target % self.group
        if other == own ^ 1:
            return (self._near + source,)
        place = other - (other > own) - (other > own ^ 1)
        return (self._far + source * (self.group - 1) + place,)


def peer_bandwidths(spec: LinkSpec, group: int) -> tuple[float, float]:
    """Bytes/s of a device to its twin (its number with the last bit flipped) and to each other device of a mesh.

    A twin's share is the spec's where it says one; what is left is taken to be spread evenly over the others.
    """
    if group <= 2:
        return spec.bandwidth_bytes_per_s, 0.0
    near = spec.peer_bandwidth_bytes_per_s or spec.bandwidth_bytes_per_s / (group - 1)
    return near, (spec.bandwidth_bytes_per_s - near) / (group - 2)


class PcieTree:
    """Every device's own link to the host or its switch, and the uplinks that what hangs under a switch shares."""

    def __init__(self, node: NodeSpec, nodes: int, links: LinkTable) -> None:
        pcie = catalog.link(node.pcie)
        self._gpus, self._nics, self._nodes = node.gpus, node.nics, nodes
        # a transfer between two devices crosses one link up and one down: half of the bus's latency each
        half_s = 0.5 * pcie.latency_s
        self._up = links.add(f"{pcie.name} up", nodes * node.gpus, pcie.bandwidth_bytes_per_s, half_s, bus=True)
        self._down = links.add(f"{pcie.name} down", nodes * node.gpus, pcie.bandwidth_bytes_per_s, half_s, bus=True)
        self._switches = node.pcie_switches or ()
        self._uplinks = [
            (
                links.add(f"{node.name} {switch.name} up", nodes, switch.uplink_bytes_per_s, bus=True),
                links.add(f"{node.name} {switch.name} down", nodes, switch.uplink_bytes_per_s, bus=True),
            )
            for switch in self._switches
        ]
        above = {switch.name: number for number, switch in enumerate(self._switches)}
        self._parent = [above[switch.under] if switch.under is not None else None for switch in self._switches]
        self._gpu_chain = [self._chain(number, "gpus") for number in range(node.gpus)]
        self._nic_chain = [self._chain(number, "nics") for number in range(node.nics)]
        self._peer: tuple[int, int] | None = None
        if (peer := node.nic_peer_bandwidth_bytes_per_s) is not None and node.nics:
            out = links.add(f"{node.name} peer reads", nodes * node.nics, peer, bus=True)
            self._peer = (out, links.add(f"{node.name} peer writes", nodes * node.nics, peer, bus=True))
        self.cards = _cards_of_gpus(self._gpu_chain, self._nic_chain)

    def between(self, source: int, target: int) -> Path:
        """From one device to another of the same server, by their numbers in the cluster."""
        node = source // self._gpus
        up, down = self._gpu_chain[source % self._gpus], self._gpu_chain[target % self._gpus]
        return (self._up + source, *self._climb(node, up, down), *self._descend(node, down, up), self._down + target)

    def to_card(self, device: int, nic: int) -> Path:
        """From a device to a card of its server, by its number there."""
        node = device // self._gpus
        up, down = self._gpu_chain[device % self._gpus], self._nic_chain[nic]
        peer = self._peer_link(0, node, nic, up, down)
        return (self._up + device, *self._climb(node, up, down), *peer, *self._descend(node, down, up))

    def from_card(self, device: int, nic: int) -> Path:
        """From a card of its server to a device."""
        node = device // self._gpus
        up, down = self._nic_chain[nic], self._gpu_chain[device % self._gpus]
        peer = self._peer_link(1, node, nic, up, down)
        return (*self._climb(node, up, down), *peer, *self._descend(node, down, up), self._down + device)

    def to_host(self, device: int) -> Path:
        """From a device to its host's memory."""
        chain = self._gpu_chain[device % self._gpus]
        return (self._up + device, *self._climb(device // self._gpus, chain, ()))

    def from_host(self, device: int) -> Path:
        """From its host's memory to a device."""
        chain = self._gpu_chain[device % self._gpus]
        return (*self._descend(device // self._gpus, chain, ()), self._down + device)

    def _chain(self, number: int, key: str) -> Path:
        """Switches above a GPU or card, nearest first."""
        found = [place for place, switch in enumerate(self._switches) if number in _held(switch, key)]
        while found and (above := self._parent[found[-1]]) is not None:
            found.append(above)
        return tuple(found)

    def _climb(self, node: int, up: Path, down: Path) -> Path:
        """Uplinks from below `up` to the first switch, or host, that both hang under."""
        return tuple(self._uplinks[switch][0] + node for switch in up if switch not in down)

    def _descend(self, node: int, down: Path, up: Path) -> Path:
        return tuple(self._uplinks[switch][1] + node for switch in reversed(down) if switch not in up)

    def _peer_link(self, direction: int, node: int, nic: int, up: Path, down: Path) -> Path:
        """What a card reads or writes of a device's memory through the host; under one switch it meets no host."""
        if self._peer is None or set(up) & set(down):
            return ()
        return (self._peer[direction] + node * self._nics + nic,)


def _held(switch: PcieSwitch, key: str) -> tuple[int, ...]:
    return switch.gpus if key == "gpus" else switch.nics


def _cards_of_gpus(gpus: list[Path], nics: list[Path]) -> list[tuple[int, ...]]:
    """The cards each GPU sends through: the nearest in the tree, shared out among the GPUs they are nearest to."""
    if not nics:
        return [() for _ in gpus]
    nearest: dict[tuple[int, ...], list[int]] = {}
    for gpu, chain in enumerate(gpus):
        shared = [len(set(chain) & set(nic)) for nic in nics]
        closest = tuple(nic for nic, common in enumerate(shared) if common == max(shared))
        nearest.setdefault(closest, []).append(gpu)
    cards: list[tuple[int, ...]] = [() for _ in gpus]
    for closest, members in nearest.items():
        for place, gpu in enumerate(members):
            first = place * len(closest) // len(members)
            last = max(first + 1, (place + 1) * len(closest) // len(members))
            cards[gpu] = closest[first:last]
    return cards
