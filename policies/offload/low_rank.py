"""Optimizer states of low rank: GaLore and APOLLO keep Adam's moments of projected gradients.

Of a matrix of m rows and n columns, m the fewer, GaLore (Zhao et al., arXiv 2403.03507) projects the gradient to r
rows by singular vectors, which it keeps (m r) and finds anew now and then, has moments there (2 n r), projects the
update back. APOLLO (Zhu et al., arXiv 2412.05270) projects at random from a seed, and scales each column of the
gradient as Adam scales the projected one: nothing is kept but moments (2 n r), nothing is projected back; APOLLO-Mini
is of rank 1.
The token table, the output and norms have Adam's own moments. Nothing leaves the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from hardware_models.errors import ImpossibleError
from policies.offload.passes import GRADIENT, GRADIENTS, Passes, Placement, kept
from policies.offload.update import STATES
from policies.offload.work import GPU, WEIGHT_BYTES, Machine, Needs, OffloadWork
from policies.offload.writer import GATHER, OPTIMIZER, REDUCE, StepWriter
from policies.task_graph import TaskGraph

MOMENTS = 2
ADDED_BYTES = 3 * WEIGHT_BYTES  # of the GPU's memory a parameter: weight and update read, weight written
Shape = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRankStates:
    """method: whose moments; adam: of all gradients as they are. layerwise: a layer is updated in the backward, as soon
    as it has its gradients, which are gone then. subspace_steps: from one search for singular vectors to the next.
    """

    method: Literal["galore", "apollo", "adam"] = "galore"
    rank: Annotated[int, Interval(ge=1, le=65536)] = 128
    state_bits: Literal[8, 16, 32] = 16
    layerwise: bool = False
    subspace_steps: Annotated[int, Interval(ge=1, le=1_000_000)] = 200

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier; raises ImpossibleError for layers updated before micro-batches are summed."""
        if self.layerwise and work.micro_batches > 1:
            raise ImpossibleError(
                "offload.policy.layerwise: a layer is updated by one micro-batch's gradients; make training's"
                " micro_batch_size the whole batch of a rank, or layerwise false"
            )
        found = self._placement(work).needs(work)
        found[GPU][STATES] = self.state_elements(work) * self.state_bits / 8
        if not self.layerwise:
            found[GPU][GRADIENT] = work.parameters * WEIGHT_BYTES
        return Needs(found)

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step; of a search for singular vectors it has its share."""
        writer, needs = StepWriter(work, machine), self.needs(work, machine)
        writer.hold(GPU, needs.by_tier[GPU][STATES], STATES)
        if not self.layerwise:
            writer.hold(GPU, needs.by_tier[GPU][GRADIENT], GRADIENT)
        seconds = self._update_s(work, machine)
        arrived: list[int] = []

        def gradients(index: int, micro_batch: int, backward: int) -> None:
            layer, name = work.layers[index], f"{work.layers[index].name}, micro-batch {micro_batch}"
            size, last = layer.parameters * WEIGHT_BYTES, backward
            if micro_batch < work.micro_batches - 1:
                return
            if work.ranks > 1:
                last = writer.exchange(GATHER, size, name, [writer.exchange(REDUCE, size, name, [backward])])
            arrived.append(last)
            if self.layerwise:
                last = writer.compute(OPTIMIZER, seconds[index], layer.name, [last])
                writer.take(backward, GPU, size, GRADIENT, buffer=GRADIENTS)
                writer.give(last, GPU, size, GRADIENT, buffer=GRADIENTS)

        Passes(writer, self._placement(work), gradients, needs).write()
        if not self.layerwise:
            writer.compute(OPTIMIZER, sum(seconds), "all layers", arrived)
        return writer.finish()

    def _update_s(self, work: OffloadWork, machine: Machine) -> list[float]:
        """Of the GPU for each layer of the work: its share of matrices, and what has Adam's own moments."""
        shared_s = sum(self._matrix_s(shape, machine) for shape in work.matrices) / work.pieces
        inside = sum(rows * columns for rows, columns in work.matrices) / work.pieces
        ends, inner = (work.layers[0], work.layers[-1]), work.layers[1:-1]
        first, last = (machine.gpu_adam_s(layer.parameters) for layer in ends)
        return [first, *(shared_s + machine.gpu_adam_s(max(0.0, one.parameters - inside)) for one in inner), last]

    def state_elements(self, work: OffloadWork) -> float:
        """Of all moments, and of projections that are kept."""
        blocks = (len(work.layers) - 2) / work.pieces
        whole = sum(rows * columns for rows, columns in work.matrices)
        apart = work.parameters - blocks * whole
        return MOMENTS * apart + blocks * sum(self._elements(shape) for shape in work.matrices)

    def _elements(self, shape: Shape) -> float:
        rows, columns = sorted(shape)
        if self.method == "adam" or self.rank >= rows:
            return MOMENTS * rows * columns
        return MOMENTS * columns * self.rank + (rows * self.rank if self.method == "galore" else 0.0)

    def _matrix_s(self, shape: Shape, machine: Machine) -> float:
        """Projected, Adam, projected back or scaled, added to the weights; a share of the search."""
        rows, columns = sorted(shape)
        if self.method == "adam" or self.rank >= rows:
            return machine.gpu_adam_s(rows * columns)
        product = machine.gpu_product_s
        seconds = product(self.rank, columns, rows) + machine.gpu_adam_s(self.rank * columns)
        seconds += machine.gpu_touch_s(rows * columns * ADDED_BYTES)
        if self.method == "apollo":
            return seconds
        return seconds + product(rows, columns, self.rank) + _search_s(rows, columns, machine) / self.subspace_steps

    @staticmethod
    def _placement(work: OffloadWork) -> Placement:
        return kept(work, GPU, on_host=False)


def _search_s(rows: float, columns: float, machine: Machine) -> float:
    """Singular vectors of a matrix: 6 n m^2 + 20 m^3 operations (Golub and Van Loan, section 8.6), as fast as products,
    which no library is: the least that it takes.
    """
    return 3.0 * machine.gpu_product_s(rows, columns, rows) + 10.0 * machine.gpu_product_s(rows, rows, rows)
