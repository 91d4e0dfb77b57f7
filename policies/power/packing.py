"""Which engines are to serve, so that as few as possible of those that do must change.

GPUs are sharded in units: the engines of a unit have one tensor-parallel size, and hold its GPUs one after another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Of an engine: GPUs `first` to `first + gpus - 1`."""

    first: int
    gpus: int

    def overlaps(self, other: Place) -> bool:
        """Do they share a GPU?"""
        return self.first < other.first + other.gpus and other.first < self.first + self.gpus


def pack(wanted: Mapping[int, int], present: Collection[Place], units: int, unit_gpus: int) -> set[Place]:
    """Places of so many engines by tensor-parallel size, given those that serve or are about to.

    The units must suffice: the sum over sizes of what they fill, rounded up.
    """
    shape: dict[int, tuple[int, int]] = {}  # unit -> size that most of its present engines have, and how many
    for unit in range(units):
        counts: dict[int, int] = {}
        for place in present:
            if place.first // unit_gpus == unit:
                counts[place.gpus] = counts.get(place.gpus, 0) + 1
        shape[unit] = max(((gpus, count) for gpus, count in counts.items()), key=lambda one: one[1], default=(0, 0))
    free, chosen = set(range(units)), set()
    shares: dict[int, list[int]] = {}
    needs = {gpus: ceil(count * gpus / unit_gpus) for gpus, count in wanted.items() if count}
    for gpus, need in needs.items():  # units that are sharded so already, fullest first
        same = sorted((unit for unit in free if shape[unit][0] == gpus), key=lambda unit: (-shape[unit][1], unit))
        shares[gpus] = same[:need]
        free -= set(shares[gpus])
    for gpus, need in needs.items():  # then units of which nothing serves, then others
        rest = sorted(free, key=lambda unit: (shape[unit][1] * shape[unit][0], unit))[: need - len(shares[gpus])]
        shares[gpus] += rest
        free -= set(rest)
    for gpus, mine in shares.items():
        places = [Place(unit * unit_gpus + i * gpus, gpus) for unit in mine for i in range(unit_gpus // gpus)]
        places.sort(key=lambda place: place not in present)  # stable: those that serve first
        chosen.update(places[: wanted[gpus]])
    return chosen
