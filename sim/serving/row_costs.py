"""Tables of what a step costs by the rows in it: everything but attention, with what bounded each second."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hardware_models.collectives import AnyFabric
from hardware_models.device import Device
from hardware_models.ops import Collective
from workloads.models.operators import Operator

Floats = NDArray[np.float64]
BOUNDS = ("compute", "memory", "network", "host")
BLOCK = 4096  # rows priced at once when a table must grow

Operators = Callable[[Floats], list[Operator]]  # row counts: (n,) -> what must be computed


def price_operators(operators: list[Operator], device: Device, fabric: AnyFabric, points: int) -> Floats:
    """Seconds by bound: (4, points), summed over operators; kernel launches count as host time."""
    seconds = np.zeros((len(BOUNDS), points))
    for operator in operators:
        op, count = operator.op, operator.count
        if isinstance(op, Collective):
            seconds[2] += count * fabric.seconds(op.kind, op.payload_bytes)
            continue
        price = device.price(op)
        busy = count * np.maximum(price.compute_s, price.memory_s)
        seconds[0] += np.where(price.compute_bound, busy, 0.0)
        seconds[1] += np.where(price.compute_bound, 0.0, busy)
        seconds[3] += count * price.launch_s
    return seconds


class RowCosts:
    """Seconds of the linear operators for 1..N rows, and of the output head for 1..M sampled rows; grows on demand."""

    def __init__(self, body: Operators, head: Operators, device: Device, fabric: AnyFabric) -> None:
        self._operators = (body, head)
        self._device, self._fabric = device, fabric
        self._parts = [np.zeros((len(BOUNDS), 1)), np.zeros((len(BOUNDS), 1))]
        self.linear_s: list[float] = [0.0]  # (rows + 1,)
        self.head_s: list[float] = [0.0]  # (samples + 1,)

    def grow(self, rows: int, samples: int) -> None:
        """Price up to so many rows and samples, rounded up to whole blocks."""
        for which, (needed, table) in enumerate(((rows, self.linear_s), (samples, self.head_s))):
            first = len(table)
            if needed < first:
                continue
            block = BLOCK if which == 0 else 256
            last = -(-needed // block) * block
            points = np.arange(first, last + 1, dtype=float)
            operators = self._operators[which](points)
            parts = price_operators(operators, self._device, self._fabric, len(points))
            self._parts[which] = np.concatenate([self._parts[which], parts], axis=1)
            table.extend(parts.sum(axis=0).tolist())

    def by_bound(self, rows: NDArray[np.int64], samples: NDArray[np.int64]) -> Floats:
        """Seconds by bound of steps with so many rows and samples: (4, steps)."""
        return self._parts[0][:, rows] + self._parts[1][:, samples]
