"""Tables of what a step costs by the rows in it: everything but attention, with what bounded each second, the bytes
read, and how unsure the seconds are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models.collectives import AnyFabric
from hardware_models.device import OPERATORS, Device
from hardware_models.ops import Collective
from workloads.models.operators import Operator

Floats = NDArray[np.float64]
BOUNDS = ("compute", "memory", "network", "host")
FACTORS = ("gemm", "grouped_gemm", "elementwise", "attention_prefill", "attention_decode", "collective", "host")
BLOCK = 4096  # rows tabulated at once when a table must grow
EVERY_ROW = 512  # up to here each row count is priced; beyond, cells of CELL rows, whose tiles are the same
CELL = 16

Operators = Callable[[Floats], list[Operator]]  # row counts: (n,) -> what must be computed


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a list of operators, summed, at many row counts."""

    by_bound: Floats  # seconds: (bounds, points); kernel launches count as host time
    unsure: Floats  # seconds times the standard deviation of their logarithm, by what they rest on: (factors, points)
    read_bytes: Floats  # weights, through the device's memory: (points,); exchanges load links instead


def price_operators(operators: list[Operator], device: Device, points: int) -> Prices:
    """Price each but collectives and sum up; operators of one factor err together."""
    seconds, unsure, read = np.zeros((len(BOUNDS), points)), np.zeros((len(FACTORS), points)), np.zeros(points)
    for operator in operators:
        op, count = operator.op, operator.count
        if isinstance(op, Collective):
            continue
        price = device.price(op)
        busy = count * np.maximum(price.compute_s, price.memory_s)
        seconds[0] += np.where(price.compute_bound, busy, 0.0)
        seconds[1] += np.where(price.compute_bound, 0.0, busy)
        seconds[3] += count * price.launch_s
        unsure[FACTORS.index(OPERATORS[type(op)])] += count * price.seconds * device.sigma(op, price)
        read += count * op.stored_bytes
    return Prices(seconds, unsure, read)


def price_collectives(operators: list[Operator], fabric: AnyFabric, points: int) -> tuple[Floats, Floats]:
    """Seconds, and seconds times the standard deviation of their logarithm: (points,) each."""
    seconds, unsure = np.zeros(points), np.zeros(points)
    for operator in operators:
        if isinstance(operator.op, Collective):
            spent = operator.count * fabric.seconds(operator.op.kind, operator.op.payload_bytes)
            seconds += spent
            unsure += spent * fabric.sigma(operator.op.kind, operator.op.payload_bytes)
    return seconds, unsure


class RowCosts:
    """Costs of the linear operators for 1..N rows, and of the output head for 1..M sampled rows; grows on demand."""

    def __init__(self, body: Operators, head: Operators, device: Device, fabric: AnyFabric) -> None:
        self._operators = (body, head)
        self._device, self._fabric = device, fabric
        columns = len(BOUNDS) + len(FACTORS) + 1
        self._tables = [np.zeros((columns, 1)), np.zeros((columns, 1))]
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
            every, points = np.arange(first, last + 1, dtype=float), _priced_points(first, last)
            prices = price_operators(self._operators[which](points), self._device, len(points))
            columns = np.vstack([prices.by_bound, prices.unsure, prices.read_bytes])
            columns = np.stack([np.interp(every, points, column) for column in columns])
            # libraries switch algorithms between two row counts: collectives are priced at each
            exchange = price_collectives(self._operators[which](every), self._fabric, len(every))
            columns[BOUNDS.index("network")] += exchange[0]
            columns[len(BOUNDS) + FACTORS.index("collective")] += exchange[1]
            self._tables[which] = np.concatenate([self._tables[which], columns], axis=1)
            table.extend(columns[: len(BOUNDS)].sum(axis=0).tolist())

    def prices(self, rows: NDArray[np.int64], samples: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """Of steps with so many rows and samples, as `Prices` has them: seconds by bound (bounds, steps), seconds
        times their log standard deviation by factor (factors, steps), and bytes of weights read (steps,).
        """
        found = self._both(rows, samples, slice(None))
        return found[: len(BOUNDS)], found[len(BOUNDS) : -1], found[-1]

    def by_bound(self, rows: NDArray[np.int64], samples: NDArray[np.int64]) -> Floats:
        """Seconds by bound of steps with so many rows and samples: (bounds, steps)."""
        return self._both(rows, samples, slice(0, len(BOUNDS)))

    def launches_and_reads(self) -> list[tuple[Floats, Floats]]:
        """Of the body by rows and of the head by samples, each as far as it is priced: seconds of kernel launches, and
        bytes of weights read.
        """
        return [(table[BOUNDS.index("host")], table[-1]) for table in self._tables]

    def _both(self, rows: NDArray[np.int64], samples: NDArray[np.int64], columns: slice) -> Floats:
        return np.asarray(self._tables[0][columns, rows] + self._tables[1][columns, samples])


def _priced_points(first: int, last: int) -> Floats:
    """Row counts to price: each one at first, then the first and last of each cell."""
    every = np.arange(first, last + 1)
    edge = (every % CELL == 0) | (every % CELL == 1) | (every == first) | (every == last)
    return np.asarray(every[(every <= EVERY_ROW) | edge], float)
