"""Perseus: for every length of an iteration, the clocks of a pipeline's passes that draw the least energy.

Chung et al., SOSP 2024, arXiv 2312.06902. Without a straggler a pipeline runs its shortest iteration, in which passes
off the critical path are slowed down (intrinsic bloat); where another pipeline makes everybody wait until T', it runs
at the frontier's point at T', or at the one of least energy if that comes earlier (extrinsic bloat).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models.errors import ImpossibleError
from policies.power.perseus_network import NANOSECONDS, Arcs, Integers
from policies.power.perseus_pipeline import Outcome, Pipeline

WITHIN = 1e-9  # of a length of iteration, rounded to whole nanoseconds a pass


@dataclass(frozen=True, slots=True)
class Frontier:
    """Vertices from the shortest iteration to the one of least net energy; between two of them all is linear."""

    pipeline: Pipeline
    iteration_s: tuple[float, ...]  # rising
    energy_j: tuple[float, ...]  # planned, of all GPUs while the iteration lasts
    planned_s: NDArray[np.float64]  # a row a vertex, a column a pass

    @property
    def shortest_s(self) -> float:
        """T_min: no clocks make an iteration shorter."""
        return self.iteration_s[0]

    @property
    def cheapest_s(self) -> float:
        """T*: where an iteration draws the least energy, waiting included."""
        return self.iteration_s[min(range(len(self.energy_j)), key=self.energy_j.__getitem__)]

    def pass_seconds(self, iteration_s: float) -> NDArray[np.float64]:
        """Planned seconds of each pass; raises ImpossibleError for an iteration shorter than the shortest."""
        if iteration_s < self.shortest_s * (1 - WITHIN):
            raise ImpossibleError(
                f"an iteration of {iteration_s:.6g} s is shorter than any clocks make it; give"
                f" {self.shortest_s:.6g} s or more"
            )
        above = bisect_left(self.iteration_s, iteration_s)
        if above == 0 or above == len(self.iteration_s):
            return np.asarray(self.planned_s[min(above, len(self.iteration_s) - 1)])
        start_s, end_s = self.iteration_s[above - 1 : above + 1]
        share = (iteration_s - start_s) / (end_s - start_s)
        return np.asarray((1 - share) * self.planned_s[above - 1] + share * self.planned_s[above])

    def planned_j(self, iteration_s: float) -> float:
        """Planned energy of an iteration of this length, of all GPUs, before times are rounded to clocks."""
        if iteration_s <= self.iteration_s[-1]:
            return float(np.interp(iteration_s, self.iteration_s, self.energy_j))
        gpus = self.pipeline.devices * self.pipeline.gpus_per_stage
        return self.energy_j[-1] + gpus * self.pipeline.blocking_w * (iteration_s - self.iteration_s[-1])

    def run(self, iteration_s: float | None = None, until_s: float = 0.0) -> Outcome:
        """Each pass at the slowest clock that keeps its planned time; `iteration_s` None: the shortest."""
        planned = self.pass_seconds(self.shortest_s if iteration_s is None else iteration_s)
        slots, pipeline = self.pipeline.slots, self.pipeline
        clocks = [pipeline.profile(slot).slowest_within(float(s)) for slot, s in zip(slots, planned, strict=True)]
        return pipeline.outcome(clocks, until_s)

    def beside_straggler(self, straggler_s: float) -> Outcome:
        """Where the iteration cannot end before another pipeline does: the point at min(T', T*), then waiting."""
        return self.run(max(self.shortest_s, min(straggler_s, self.cheapest_s)), straggler_s)


def frontier(pipeline: Pipeline) -> Frontier:
    """The whole frontier, vertex by vertex: the most flow through critical arcs, then the shortest iteration with it.

    It starts with every pass at its least net energy and no flow, and ends at the length that no clocks undercut.
    """
    arcs = Arcs.of(pipeline)
    event_ns = _events(pipeline, arcs, arcs.vertex_ns[:, 0])
    shortest_ns = _events(pipeline, arcs, arcs.fastest_ns())[arcs.sink]
    flow = np.zeros(len(arcs.tail), np.int64)
    lengths: list[Integers] = []
    totals: list[int] = []
    while True:
        lengths.append((event_ns[arcs.head] - event_ns[arcs.tail])[: arcs.passes])
        totals.append(int(event_ns[arcs.sink]))
        if event_ns[arcs.sink] <= shortest_ns:
            break
        flow = arcs.more_flow(event_ns, flow)
        event_ns = arcs.earliest(event_ns, flow)
    planned_s = np.minimum(lengths[::-1], arcs.vertex_ns[:, 0]) / NANOSECONDS  # longer is waiting
    iteration_s = np.array(totals[::-1]) / NANOSECONDS
    net_j = _net_j(pipeline, planned_s)
    energy_j = pipeline.gpus_per_stage * (net_j + pipeline.devices * pipeline.blocking_w * iteration_s)
    return Frontier(pipeline, tuple(iteration_s.tolist()), tuple(energy_j.tolist()), planned_s)


def _events(pipeline: Pipeline, arcs: Arcs, passes_ns: Integers) -> Integers:
    """Events with passes of these lengths, as early as they can be."""
    length_ns, lags = passes_ns.tolist(), arcs.lag_ns.tolist()
    into: list[list[tuple[int, int]]] = [[] for _ in range(arcs.sink + 1)]
    for tail, head, lag in zip(arcs.tail[arcs.passes :].tolist(), arcs.head[arcs.passes :].tolist(), lags, strict=True):
        into[head].append((tail, lag))
    event_ns = [0] * (arcs.sink + 1)
    for task in pipeline.order:
        event_ns[2 * task] = max(event_ns[tail] + lag for tail, lag in into[2 * task])
        event_ns[2 * task + 1] = event_ns[2 * task] + length_ns[task]
    event_ns[arcs.sink] = max(event_ns[tail] + lag for tail, lag in into[arcs.sink])
    return np.array(event_ns, np.int64)


def _net_j(pipeline: Pipeline, planned_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Net energy of one GPU of each stage, a figure a vertex."""
    total = np.zeros(len(planned_s))
    columns: dict[tuple[str, int], list[int]] = {}
    for column, slot in enumerate(pipeline.slots):
        columns.setdefault((slot.work, slot.stage), []).append(column)
    for key, chosen in columns.items():
        curve = pipeline.passes[key].curve(pipeline.blocking_w)
        total += np.interp(planned_s[:, chosen], curve.seconds[::-1], curve.net_j[::-1]).sum(axis=1)
    return total
