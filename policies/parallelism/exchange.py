"""What copies of a model exchange, as data: collectives one after another, each among copies at even distances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

QUANTIZED_GROUP = 2048  # elements that share a scale in fp32 (DeepSpeed's default for ZeRO++)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One collective over a part of the model among `ranks` copies, each `apart` copies from the next."""

    kind: str  # as of hardware_models.collectives.KINDS, or a host's own: "hfreduce"
    ranks: int
    apart: int = 1
    bytes_per_parameter: float  # its payload, a parameter of the part
    passes_bytes: float = 0.0  # read and written on the device before and after it, a parameter


Hops: TypeAlias = tuple[Hop, ...]


def hop(kind: str, ranks: int, bytes_per_parameter: float, *, apart: int = 1, passes_bytes: float = 0.0) -> Hops:
    """One hop, or none where there is nobody to exchange with."""
    if ranks < 2:
        return ()
    return (
        Hop(
            kind=kind, ranks=ranks, apart=apart, bytes_per_parameter=bytes_per_parameter, passes_bytes=passes_bytes
        ),
    )  # fmt: skip


def copied(hops: Hops, copy_bytes: float) -> Hops:
    """The same, with so much more read and written on the device, a parameter, before the first."""
    if not hops or not copy_bytes:
        return hops
    return (replace(hops[0], passes_bytes=hops[0].passes_bytes + copy_bytes), *hops[1:])


def quantized_bytes(bits: int) -> float:
    """Of one element with its share of a scale."""
    return bits / 8.0 + 4.0 / QUANTIZED_GROUP
