"""ZO2: zeroth-order training whose blocks visit the GPU once a step (arXiv 2503.12668), and DistZO2 (2507.03211).

MeZO (arXiv 2305.17333) has no backward: weights are moved by +e z and by -e z, z from a seed, and two losses give the
gradient along z. A block comes to the GPU, takes the last step's update, runs forward with both signs, and goes back,
while the next one comes: of three slots, which are allocated once, one fills, one computes, one drains. The token table
and the output stay on the GPU. With more ranks each brings a part of a block and they gather it among them; they
exchange but the losses.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.offload.passes import ACTIVATIONS, WEIGHTS, WORKING
from policies.offload.superpipeline import joined
from policies.offload.work import FP32, GPU, HOST, WEIGHT_BYTES, LayerWork, Machine, Needs, OffloadWork
from policies.offload.writer import FORWARD, GATHER, OPTIMIZER, REDUCE, StepWriter
from policies.task_graph import TaskGraph

SLOTS = 3
SIGNS = 2
WINDOW = "blocks on a visit"
# of the GPU's memory, for a weight moved along z: z is written, scaled twice, and added (MeZO's trainer, as remembered)
MOVED_BYTES = WEIGHT_BYTES * (1.0 + 2.0 + 2.0 + 3.0)
TEMPORARIES = 2  # tensors like the largest one that is moved: z and what it is scaled to


@dataclass(frozen=True, slots=True, kw_only=True)
class Zo2:
    """resident: all weights stay on the GPU, as in MeZO. sliced: a rank brings its part of a block, else all of it,
    from a copy of its own in host memory.
    """

    resident: bool = False
    sliced: bool = True

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier."""
        table, blocks, output = work.layers[0], self._blocks(work), work.layers[-1]
        inner = sum(block.parameters for block in blocks) * WEIGHT_BYTES
        ends = (table.parameters + output.parameters) * WEIGHT_BYTES
        largest = max(table.parameters, output.parameters, *(m * n for m, n in work.matrices)) * WEIGHT_BYTES
        gpu = {
            WEIGHTS: ends + (inner if self.resident else SLOTS * self._largest(blocks)),
            ACTIVATIONS: SIGNS * work.micro_batches * max(block.kept_bytes for block in blocks),
            WORKING: max(
                SIGNS * output.forward_bytes, TEMPORARIES * largest, *(block.forward_bytes for block in blocks)
            ),
        }
        return Needs({GPU: gpu, HOST: {} if self.resident else {WEIGHTS: inner / self._parts(work)}})

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step, as it is when others have gone before."""
        writer = StepWriter(work, machine, reserved=frozenset((WINDOW,)))
        needs, blocks = self.needs(work, machine).by_tier, self._blocks(work)
        for owner in (WEIGHTS, ACTIVATIONS, WORKING):
            writer.hold(GPU, needs[GPU][owner], owner)
        writer.hold(HOST, needs[HOST].get(WEIGHTS, 0.0), WEIGHTS)
        writer.buffer(GPU, WINDOW, SLOTS * self._largest(blocks))
        self._forwards(writer, work.layers[0], [])
        for block in blocks:
            self._visit(writer, block)
        last = self._forwards(writer, work.layers[-1], [])
        if work.ranks > 1:
            writer.exchange(REDUCE, work.ranks * SIGNS * FP32, "losses", [last])
        return writer.finish()

    def _visit(self, writer: StepWriter, block: LayerWork) -> None:
        """A block comes, computes, and goes."""
        if self.resident:
            self._forwards(writer, block, [])
            return
        whole = block.parameters * WEIGHT_BYTES
        part = whole / self._parts(writer.work)
        come = here = writer.h2d(part, f"weights {block.name}")
        writer.take(come, GPU, whole, WEIGHTS, buffer=WINDOW)
        if part < whole:
            here = writer.exchange(GATHER, whole, block.name, [come])
        done = self._forwards(writer, block, [here])
        gone = writer.d2h(whole / writer.work.ranks if self.sliced else whole, f"weights {block.name}", [done])
        writer.give(gone, GPU, whole, WEIGHTS, buffer=WINDOW)

    @staticmethod
    def _forwards(writer: StepWriter, layer: LayerWork, after: list[int]) -> int:
        """The last update, and a forward at each side of the weights, to which they return: the last task of that."""
        moved_s = writer.machine.gpu_touch_s(layer.parameters * MOVED_BYTES)
        last = writer.compute(OPTIMIZER, 2 * moved_s, f"update and +z {layer.name}", after)
        for sign, way in (("+", "-2z"), ("-", "+z")):
            for micro_batch in range(writer.work.micro_batches):
                name = f"{layer.name}, micro-batch {micro_batch}, {sign}z"
                last = writer.compute(FORWARD, layer.forward_s, name, [last])
            last = writer.compute(OPTIMIZER, moved_s, f"{way} {layer.name}", [last])
        return last

    def _parts(self, work: OffloadWork) -> int:
        return work.ranks if self.sliced else 1

    @staticmethod
    def _largest(blocks: list[LayerWork]) -> float:
        return max(block.parameters for block in blocks) * WEIGHT_BYTES

    @staticmethod
    def _blocks(work: OffloadWork) -> list[LayerWork]:
        """Layers of the model, whole."""
        inner = work.layers[1:-1]
        return [joined(inner[first : first + work.pieces]) for first in range(0, len(inner), work.pieces)]
