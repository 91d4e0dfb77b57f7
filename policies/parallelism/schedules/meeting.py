"""Moments at which all devices of a pipeline meet: passes that wait for passes of every device, and an exchange."""

from __future__ import annotations

from typing import NamedTuple

BROADCAST = "broadcast"  # of one device's output to all
AGREE = "agree"  # all devices' parts made one, everywhere
REDUCE = "reduce"  # all devices' parts added up


class Meeting(NamedTuple):
    """Slots, counted device by device as `dependencies` does, and what is exchanged between them."""

    kind: str
    sources: tuple[int, ...]  # whose results are exchanged
    targets: tuple[int, ...]  # that wait for it
