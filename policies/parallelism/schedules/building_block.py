"""A V-shaped schedule as one building block, repeated (Qi et al., 2405.15362).

Each device holds two chunks, the model going down the devices and back up: device i has stages i and 2p - 1 - i. The
block is one micro-batch's six passes on every device, each a tick long; it repeats every six ticks, so passes of a
device must differ modulo six. How far apart neighbours run the same pass decides how long activations live, and so how
many are alive at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

from policies.parallelism.schedules.schedule import (
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    Programs,
    Slot,
)

PERIOD = 6  # ticks: forward, backward of inputs and of weights, of two chunks


@dataclass(frozen=True, slots=True)
class Offsets:
    """Ticks between a pass on one device and on the next, in the order in which a micro-batch meets them."""

    down: int  # forward of the first chunk
    up: int  # forward of the second
    back_down: int  # backward of the second
    back_up: int  # backward of the first


@dataclass(frozen=True, slots=True)
class Passes:
    """Ticks at which one device starts a micro-batch's passes: of the first chunk, then of the second."""

    forward: tuple[int, int]
    backward: tuple[int, int]
    weight: tuple[int, int]

    def peak(self) -> int:
        """Activations alive at once when the block repeats for ever; a chunk's stays until its weights are done."""
        return max(sum(self._alive(chunk, tick) for chunk in (0, 1)) for tick in self.forward)

    def _alive(self, chunk: int, tick: int) -> int:
        return (tick - self.forward[chunk]) // PERIOD - (tick - self.weight[chunk] - 1) // PERIOD


Block = tuple[Passes, ...]  # of each device


def smallest_block(offsets: Offsets, devices: int) -> Block:
    """Of the blocks with these offsets the one that holds least, then the shortest; each turn may wait for some ticks.

    The waits are searched because a turn without any may put two passes of a device on one tick of the period.
    """
    best: tuple[tuple[int, ...], Block] | None = None
    for waits in product(range(PERIOD), repeat=3):
        block = _block(offsets, devices, waits)
        if block is not None:
            rank = (max(passes.peak() for passes in block), sum(waits), *waits)
            if best is None or rank < best[0]:
                best = rank, block
    assert best is not None, "offsets whose passes always meet"
    return best[1]


def _block(offsets: Offsets, devices: int, waits: tuple[int, ...]) -> Block | None:
    """Passes of each device; None if two of one device fall on the same tick of the period."""
    last = devices - 1
    up = last * offsets.down + 1 + waits[0]  # on the last device
    back_down = up + last * offsets.up + 1 + waits[1]  # on the first
    back_up = back_down + last * offsets.back_down + 1 + waits[2]  # on the last
    rows = []
    for device in range(devices):
        forward = device * offsets.down, up + (last - device) * offsets.up
        backward = back_up + (last - device) * offsets.back_up, back_down + device * offsets.back_down
        taken = {tick % PERIOD for tick in forward + backward}
        if len(taken) < 4:
            return None
        rows.append(Passes(forward, backward, _weights(backward, set(range(PERIOD)) - taken)))
    return tuple(rows)


def _weights(backward: tuple[int, int], free: set[int]) -> tuple[int, int]:
    """The two free ticks of the period, each chunk's after its own backward, together as early as can be."""
    choices = [
        (backward[0] + 1 + (a - backward[0] - 1) % PERIOD, backward[1] + 1 + (b - backward[1] - 1) % PERIOD)
        for a, b in permutations(sorted(free))
    ]
    return min(choices, key=sum)


def repeat(block: Block, micro_batches: int) -> Programs:
    """The block once for every micro-batch, each a period after the one before."""
    devices = len(block)
    programs = []
    for device, passes in enumerate(block):
        timed = []
        for chunk, stage in enumerate((device, 2 * devices - 1 - device)):
            for work, ticks in (
                (FORWARD, passes.forward),
                (BACKWARD_INPUT, passes.backward),
                (BACKWARD_WEIGHT, passes.weight),
            ):
                timed += [(ticks[chunk] + PERIOD * k, Slot(work, k, stage)) for k in range(micro_batches)]
        timed.sort()
        programs.append(tuple(slot for _, slot in timed))
    return tuple(programs)
