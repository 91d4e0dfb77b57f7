"""The optimizer's update on the CPU: gradients that wait in host memory, states there or on drives, weights back.

States on drives are read, updated and written one subgroup after another; the next is read while this one is updated
where the buffer for states has room for both (ZeRO-Infinity, arXiv 2104.07857, section 5.1.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from policies.offload.work import DRIVES, GPU, HOST, STATE_BYTES, WEIGHT_BYTES
from policies.offload.writer import StepWriter

STATES = "optimizer states"
BUFFER = "states in host memory"
GRADIENT = "gradients"


@dataclass(slots=True)
class Update:
    """Of one rank's part of the parameters, in pieces; states: the tier where they live."""

    writer: StepWriter
    states: str
    weights: str  # the tier that the new weights go to
    pieces: int  # whose states may be in host memory at once, where they live on drives
    largest: float  # parameters of a piece
    gradients_on_drives: bool = False  # in fp32, written in the backward and read again with the states
    state_bytes: float = STATE_BYTES
    new_weight_bytes: float = WEIGHT_BYTES  # beside its state, which it may be a part of
    ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer.buffer(HOST, BUFFER, self.pieces * self.largest * self.read_bytes)

    @property
    def read_bytes(self) -> float:
        """Of a parameter, from drives."""
        return self.state_bytes + (4.0 if self.gradients_on_drives else 0.0)

    @property
    def written_bytes(self) -> float:
        """Of a parameter, to drives: states, and its new weight if that lives there."""
        return self.state_bytes + (self.new_weight_bytes if self.weights == DRIVES else 0.0)

    def piece(self, parameters: float, name: str, after: Iterable[int]) -> int:
        """One piece's update: its last task. after: of its gradients, and what else it must wait for."""
        writer = self.writer
        waits = list(after)
        if self.states == DRIVES:
            size = parameters * self.read_bytes
            waits += self.ends[-self.pieces :][:1] if len(self.ends) >= self.pieces else []
            read = writer.read(size, f"states {name}", waits)
            writer.take(read, HOST, size, STATES, buffer=BUFFER)
            waits.append(read)
        updated = last = writer.adam(parameters, name, waits)
        if self.states == DRIVES:
            last = writer.write(parameters * self.written_bytes, f"states {name}", [updated])
            writer.give(last, HOST, parameters * self.read_bytes, STATES, buffer=BUFFER)
        if self.weights == GPU:
            last = writer.h2d(parameters * WEIGHT_BYTES, f"new weights {name}", [updated])
        self.ends.append(last)
        return updated


def pieces_of(parameters: float, size: float) -> list[float]:
    """Pieces of at most so many parameters."""
    whole, rest = divmod(parameters, size)
    return [size] * int(whole) + ([rest] if rest else [])
