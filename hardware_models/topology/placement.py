"""Groups of ranks at even distances, and how they lie in servers.

Ranks are numbered in Megatron-LM's usual order: tensor fastest, then context (and expert), data, and pipeline slowest;
rank r runs on device r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from hardware_models.errors import ImpossibleError
from hardware_models.specs import NodeSpec


@dataclass(frozen=True, slots=True)
class RankGroup:
    """Ranks r, r + stride, r + 2 stride, ..., `size` of them."""

    stride: int
    size: int

    def __post_init__(self) -> None:
        if self.stride < 1 or self.size < 1:
            raise ImpossibleError(f"a group of {self.size} ranks, each {self.stride} after the last; give at least 1")

    @classmethod
    def of(cls, devices: Sequence[int]) -> Self:
        """Of devices in order; raises ImpossibleError where they do not lie at one distance."""
        gaps = sorted({after - before for before, after in pairwise(devices)}) or [1]
        if len(gaps) > 1 or gaps[0] < 1:
            raise ImpossibleError(f"devices {list(devices)} lie {gaps} apart; a group's ranks lie at one distance")
        return cls(gaps[0], len(devices))


def rank_groups(*, tp: int, cp: int = 1, dp: int = 1, pp: int = 1, ep: int = 1) -> dict[str, RankGroup]:
    """The groups of one layout by name, in Megatron-LM's words; world size is tp x cp x dp x pp.

    "data" holds replicas of a batch's shards, "data_context" those of the weights; experts are spread over ranks of
    data_context, "expert_data" holds the replicas of one. Raises ImpossibleError where ep does not divide cp x dp.
    """
    if (cp * dp) % ep:
        raise ImpossibleError(f"expert parallelism {ep} does not divide context x data parallelism {cp} x {dp}")
    return {
        "tensor": RankGroup(1, tp),
        "context": RankGroup(tp, cp),
        "data": RankGroup(tp * cp, dp),
        "data_context": RankGroup(tp, cp * dp),
        "expert": RankGroup(tp, ep),
        "expert_data": RankGroup(tp * ep, cp * dp // ep),
        "pipeline": RankGroup(tp * cp * dp, pp),
    }


@dataclass(frozen=True, slots=True)
class Placement:
    """How a group lies in servers, or in racks of servers that one scale-up link joins: `unit` devices each."""

    unit: int
    domain: int  # devices that a scale-up link joins; 1: there is none
    per_unit: int  # ranks of the group in each
    units: int
    step: int  # units from one that holds ranks to the next

    @classmethod
    def of(cls, node: NodeSpec, group: RankGroup) -> Self:
        """As if the group began with the first device of a server."""
        domain = node.scale_up_group if node.scale_up is not None else 1
        unit = max(node.gpus, domain)
        reach = group.stride * (group.size - 1) + 1
        per_unit = group.size if reach <= unit else max(1, unit // group.stride)
        return cls(unit, domain, per_unit, -(-group.size // per_unit), max(1, group.stride // unit))

    def offsets(self, group: RankGroup, concurrent: int | None) -> list[int]:
        """First devices, in one unit, of the groups that run at once; `concurrent` of them, spread evenly."""
        span = group.stride * self.per_unit
        first = list(range(min(group.stride, self.unit)))
        blocks = range(0, max(1, self.unit - span + 1), span) if self.units == 1 else (0,)
        every = [block + offset for block in blocks for offset in first]
        if concurrent is None or concurrent >= len(every):
            return every
        if concurrent < 1:
            raise ImpossibleError(f"concurrent = {concurrent}; at least the group itself runs")
        return [every[place * len(every) // concurrent] for place in range(concurrent)]
