"""A pipeline as a network in which the time of an iteration is bought with energy, arc by arc (Perseus, 2312.06902).

Events are starts and ends of passes. A pass is an arc from its start to its end; its curve says what each second less
costs, so that much flow it can carry before it is sped up: of n watts between two vertices of its curve, the n-th watt
makes the second worth buying. What waits for something else is an arc of any flow. A minimum cut through arcs that are
critical is the cheapest way to speed an iteration up; arcs that the cut crosses backwards slow down and give energy
back (Phillips and Dessouky 1977; Fulkerson 1961, who keeps the flow from one cut to the next).

Times are whole nanoseconds and flows whole units of a watt, so that what is critical is never a matter of rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra, maximum_flow

from hardware_models.errors import ImpossibleError
from policies.power.perseus_pipeline import Pipeline
from policies.power.perseus_profile import Curve

Integers = NDArray[np.int64]
NANOSECONDS = 1e9
ANY = 1 << 30  # flow without a bound: capacities are 32-bit integers
FINEST = 1 << 24  # of the flow that all devices at their steepest carry: far from ANY, and fine enough for watts


@dataclass(frozen=True, slots=True)
class Arcs:
    """Columns with an entry an arc: those of passes first, then those of waits, of which the last enters the network.

    On the arc of pass i, a flow in [least[i, k], least[i, k + 1]] goes with a length of vertex_ns[i, k], from the
    longest on; a length between two vertices with exactly the flow between them. A wait has any flow at the length of
    its lag, and none where it is longer.
    """

    tail: Integers
    head: Integers
    vertex_ns: Integers
    least: Integers
    lag_ns: Integers
    source: int
    sink: int

    @classmethod
    def of(cls, pipeline: Pipeline) -> Arcs:
        """Starts are even events, ends odd ones; then the source, what it feeds, and the sink."""
        count = len(pipeline.slots)
        source, entry, sink = 2 * count, 2 * count + 1, 2 * count + 2
        waits = [
            (2 * other + 1, 2 * task, round(lag * NANOSECONDS))
            for task, others in enumerate(pipeline.before)
            for other, lag in others
        ]
        needed = {other for others in pipeline.before for other, _ in others}
        waits += [(entry, 2 * task, 0) for task, others in enumerate(pipeline.before) if not others]
        ends = dict.fromkeys((task for task in range(count) if task not in needed), 0.0) | dict(pipeline.last)
        waits += [(2 * task + 1, sink, round(lag * NANOSECONDS)) for task, lag in sorted(ends.items())]
        waits.append((source, entry, 0))
        curves = [pipeline.profile(slot).curve(pipeline.blocking_w) for slot in pipeline.slots]
        tails, heads, lags = zip(*waits, strict=True)
        return cls(
            np.array([*range(0, 2 * count, 2), *tails], np.int64),
            np.array([*range(1, 2 * count, 2), *heads], np.int64),
            *_curve_columns(curves, pipeline.devices),
            np.array(lags, np.int64),
            source,
            sink,
        )

    @property
    def passes(self) -> int:
        """How many arcs are of passes."""
        return len(self.vertex_ns)

    def range_of_flow(self, length_ns: Integers) -> tuple[Integers, Integers]:
        """Least and most flow of each arc at these lengths; a longer one than the longest vertex is a wait: no flow."""
        passes, waits = length_ns[: self.passes, None], length_ns[self.passes :]
        rows = np.arange(self.passes)
        longer = (self.vertex_ns > passes).sum(axis=1)
        as_long = (self.vertex_ns >= passes).sum(axis=1)
        most = np.where(waits == self.lag_ns, ANY, 0)
        return (
            np.concatenate([self.least[rows, longer], np.zeros_like(most)]),
            np.concatenate([self.least[rows, as_long], most]),
        )

    def range_of_length(self, flow: Integers) -> tuple[Integers, Integers]:
        """Shortest and longest length of each arc at these flows; without flow it may be longer still."""
        passes = flow[: self.passes, None]
        rows, last = np.arange(self.passes), self.vertex_ns.shape[1] - 1
        carried = (self.least[:, 1:] <= passes).sum(axis=1)
        below = (self.least[:, 1:] < passes).sum(axis=1)
        return (
            np.concatenate([self.vertex_ns[rows, np.minimum(carried, last)], self.lag_ns]),
            np.concatenate([self.vertex_ns[rows, np.minimum(below, last)], self.lag_ns]),
        )

    def more_flow(self, event_ns: Integers, flow: Integers) -> Integers:
        """The most flow that critical arcs carry; raises ImpossibleError where passes differ so much that whole units
        of it cannot tell their watts apart.
        """
        least, most = self.range_of_flow(event_ns[self.head] - event_ns[self.tail])
        room = np.concatenate([most - flow, flow - least])
        ends = np.concatenate([self.tail, self.head]), np.concatenate([self.head, self.tail])
        open_ = room > 0
        size = self.sink + 1
        capacity = csr_array(
            (np.minimum(room[open_], ANY).astype(np.int32), (ends[0][open_], ends[1][open_])), shape=(size, size)
        )
        found = maximum_flow(capacity, self.source, self.sink)
        if flow[-1] + found.flow_value >= ANY:
            raise ImpossibleError(
                "a pass of this pipeline saves so much more energy a second than the others that they cannot be"
                " weighed; check the profiles' seconds and joules"
            )
        more = found.flow.tocsr()[self.tail, self.head]
        return np.asarray(flow + np.asarray(more, np.int64).ravel())

    def fastest_ns(self) -> Integers:
        """Length of every pass at its fastest."""
        return np.asarray(self.vertex_ns[:, -1])

    def earliest(self, event_ns: Integers, flow: Integers) -> Integers:
        """Events of the shortest iteration with this flow, from those of a longer one."""
        length = event_ns[self.head] - event_ns[self.tail]
        shortest, longest = self.range_of_length(flow)
        carries = flow > 0
        slack = np.concatenate([length - shortest, (longest - length)[carries]]).astype(float)
        rows = np.concatenate([self.tail, self.head[carries]])
        columns = np.concatenate([self.head, self.tail[carries]])
        size = self.sink + 1
        graph = csr_array((slack, (rows, columns)), shape=(size, size))
        return np.asarray(event_ns - dijkstra(graph, indices=[self.source])[0].astype(np.int64))


def _curve_columns(curves: list[Curve], devices: int) -> tuple[Integers, Integers]:
    """Vertices in nanoseconds, and least flows, as wide as the curve of most vertices."""
    width = max(len(curve.seconds) for curve in curves)
    steepest = max((watts for curve in curves for watts in _watts(curve)), default=1.0)
    per_watt = FINEST / (devices * steepest)
    vertex_ns = np.empty((len(curves), width), np.int64)
    least = np.full((len(curves), width + 1), ANY, np.int64)
    least[:, 0] = 0
    known: dict[Curve, tuple[list[int], list[int]]] = {}
    for row, curve in enumerate(curves):
        if curve not in known:
            known[curve] = (
                [round(second * NANOSECONDS) for second in curve.seconds],
                [max(1, round(watts * per_watt)) for watts in _watts(curve)],
            )
        vertices, flows = known[curve]
        vertex_ns[row, : len(vertices)] = vertices
        vertex_ns[row, len(vertices) :] = vertices[-1]
        least[row, 1 : len(vertices)] = flows
    return vertex_ns, least


def _watts(curve: Curve) -> list[float]:
    """What a second less costs, from each vertex to the next faster one: rising, as the curve is convex."""
    count = len(curve.seconds) - 1
    return [(curve.net_j[k + 1] - curve.net_j[k]) / (curve.seconds[k] - curve.seconds[k + 1]) for k in range(count)]
