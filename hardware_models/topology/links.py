"""Directed links by number, kept as blocks of equal ones: a network of any size is a dozen blocks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

from hardware_models.errors import FleetcastError


@dataclass(frozen=True, slots=True)
class LinkBlock:
    """Equal links with consecutive numbers."""

    name: str
    first: int
    count: int
    bytes_per_s: float  # of each, in its direction
    latency_s: float  # of each, for the first byte
    bus: bool = False  # inside a server, between device and card: what a card is said to take holds its latency


@dataclass(slots=True)
class LinkTable(Sequence[float]):
    """All links of a topology; as a sequence, their capacities in bytes/s."""

    blocks: list[LinkBlock] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _count: int = 0

    def add(self, name: str, count: int, bytes_per_s: float, latency_s: float = 0.0, *, bus: bool = False) -> int:
        """The number of the first of `count` new links."""
        first = self._count
        if count > 0:
            self.blocks.append(LinkBlock(name, first, count, bytes_per_s, latency_s, bus))
            self._starts.append(first)
            self._count += count
        return first

    def block(self, link: int) -> LinkBlock:
        """The block that holds a link; raises FleetcastError for a number that is none."""
        if not 0 <= link < self._count:
            raise FleetcastError(f"link {link}: this topology has links 0 to {self._count - 1}")
        return self.blocks[bisect_right(self._starts, link) - 1]

    def name(self, link: int) -> str:
        """What it is called: its block's name and its place in it."""
        block = self.block(link)
        return f"{block.name} {link - block.first}"

    def latency_s(self, path: Sequence[int]) -> float:
        """Of a path's first byte. Buses between a device and a network card count within the card's figure."""
        blocks = [self.block(link) for link in path]
        leaves = any(not block.bus for block in blocks)
        return sum(block.latency_s for block in blocks if not (leaves and block.bus))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, link: int) -> float: ...

    @overload
    def __getitem__(self, link: slice) -> list[float]: ...

    def __getitem__(self, link: int | slice) -> float | list[float]:
        if isinstance(link, slice):
            return [self.block(number).bytes_per_s for number in range(*link.indices(self._count))]
        return self.block(link).bytes_per_s
