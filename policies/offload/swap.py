"""How much of what a layer would compute again is better kept in host memory: Ratel's cost model.

Outputs of products are swapped in order of the seconds they spare a byte; one that the next layer keeps anyway spares
its product for nothing. With a share D of their bytes swapped, a step lasts as long as the slowest of GPU, link to the
host and drives, forward and backward (arXiv 2403.06504, section 5); the least D with the least such time is taken.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from policies.offload.work import STATE_BYTES, WEIGHT_BYTES, LayerWork, Machine, OffloadWork

STEPS = 100  # shares that are tried


def swapped(layer: LayerWork, fraction: float) -> tuple[float, float]:
    """Bytes of a layer's activations that are swapped, and the seconds of computing it again that they spare."""
    left = fraction * sum(size for _, size in layer.products)
    sent = spared = 0.0
    for seconds, size in sorted(layer.products, key=lambda one: -one[0] / one[1] if one[1] else float("-inf")):
        part = 1.0 if not size else min(1.0, left / size)
        left -= part * size
        sent += part * size
        spared += part * seconds
    return sent, min(spared, layer.recompute_s)


def all_swapped(work: OffloadWork, fraction: float) -> list[tuple[float, float]]:
    """The same of each layer."""
    known = {key: swapped(layer, fraction) for key, (layer, _) in alike(work).items()}
    return [known[_costs(layer)] for layer in work.layers]


def alike(work: OffloadWork) -> dict[Hashable, tuple[LayerWork, int]]:
    """Layers that cost the same: one of them, and how many there are."""
    found: dict[Hashable, tuple[LayerWork, int]] = {}
    for layer in work.layers:
        key = _costs(layer)
        first, count = found.get(key, (layer, 0))
        found[key] = (first, count + 1)
    return found


def _costs(layer: LayerWork) -> Hashable:
    """All that swapping looks at; not its name."""
    return layer.products, layer.kept_bytes, layer.forward_s, layer.backward_s, layer.recompute_s


def chosen_fraction(work: OffloadWork, machine: Machine, room_bytes: float) -> float:
    """The share D; of no layer are more than `room_bytes` swapped, for which the GPU has buffers."""
    largest = max(sum(size for _, size in layer.products) for layer in work.layers)
    most = 1.0 if largest <= room_bytes else max(0.0, room_bytes / largest)
    shares = [most * step / STEPS for step in range(STEPS + 1)]
    closed = _ClosedForm.of(work, machine)
    times = [closed.step_seconds(share) for share in shares]
    return min(zip(times, shares, strict=True), key=lambda one: (round(one[0], 9), one[1]))[1]


@dataclass(frozen=True, slots=True)
class _ClosedForm:
    """A step for comparing shares: passes without stalls, all else as long as its bytes take."""

    machine: Machine
    often: int  # micro-batches
    part: float  # parameters that the rank updates
    distinct: tuple[tuple[LayerWork, int], ...]  # layers, and how many there are of each

    @classmethod
    def of(cls, work: OffloadWork, machine: Machine) -> _ClosedForm:
        return cls(machine, work.micro_batches, work.parameters / work.ranks, tuple(alike(work).values()))

    def step_seconds(self, fraction: float) -> float:
        """With such a share swapped."""
        out = forward_s = backward_s = 0.0
        for layer, count in self.distinct:
            size, spared = swapped(layer, fraction)
            out += count * (layer.kept_bytes + size)
            forward_s += count * layer.forward_s
            backward_s += count * (layer.recompute_s - spared + layer.backward_s)
        machine, often, part = self.machine, self.often, self.part
        weights = part * WEIGHT_BYTES
        h2d, d2h = (min(machine.links[link] for link in links) for links in (machine.h2d, machine.d2h))
        read, write = machine.read_bytes_per_s, machine.write_bytes_per_s
        fetch_s = often * weights / h2d
        load_s = often * weights / read if read else 0.0
        states_s = part * STATE_BYTES / read + part * (STATE_BYTES + WEIGHT_BYTES) / write if read else 0.0
        forward = max(often * forward_s, often * out / d2h, load_s, fetch_s)
        returned_s = often * out / h2d + fetch_s
        adam_s = part / machine.adam_parameters_per_s
        return forward + max(often * backward_s, returned_s, often * weights / d2h, load_s + states_s, adam_s)
