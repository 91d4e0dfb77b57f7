"""How a flow chooses among equal paths: by hash (ECMP), by its target (static tables), or all of them (adaptive)."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.specs import Routing

MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Flow:
    """What switches see of a flow: cards at its ends and what distinguishes it from others between them."""

    source: int
    target: int
    label: int = 0  # flow_hash of `Topology.path`: ports, queue pairs


@dataclass(frozen=True, slots=True)
class Spread:
    """One way to choose, in all switches of a network."""

    routing: Routing

    @property
    def bundled(self) -> bool:
        """Are parallel links one, of all their bandwidth? Packets of adaptive flows take whichever is free."""
        return self.routing == "adaptive"

    def choose(self, flow: Flow, choices: int, *, stage: int, target_port: int) -> int:
        """One of `choices` equal links.

        stage: which choice of the path this is; each has a hash of its own, so that choices do not follow each other.
        target_port: the target's number below the switches that are chosen among; static tables go by it, modulo the
        choices (d-mod-k; Zahavi, 2010).
        """
        if choices == 1 or self.bundled:
            return 0
        if self.routing == "static":
            return target_port % choices
        return mixed(flow.source, flow.target, flow.label, stage) % choices


def mixed(*numbers: int) -> int:
    """A hash of whole numbers, the same in every process (SplitMix64's finaliser; Steele et al., 2014)."""
    state = 0
    for number in numbers:
        state = (state + 0x9E3779B97F4A7C15 + number * 0xD1342543DE82EF95) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state
