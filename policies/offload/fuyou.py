"""Fuyou (Ratel): states and weights on drives, Adam inside the backward, activations swapped by a cost model.

As soon as a layer's gradients are in host memory its states are read, updated and written back, while the backward of
the layers before it goes on (Liao et al., arXiv 2403.06504, section 4). Activations go to host memory, and beyond what
fits there to drives; those that are not swapped are computed again (section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from policies.offload.passes import GRADIENT, GRADIENTS, PARTS, STAGED, Passes, Placement, kept
from policies.offload.swap import all_swapped, chosen_fraction
from policies.offload.update import STATES, Update
from policies.offload.work import DRIVES, FP32, GPU, HOST, STATE_BYTES, WEIGHT_BYTES, Machine, Needs, OffloadWork
from policies.offload.writer import StepWriter
from policies.offload.zero_infinity import TIERS
from policies.offload.zero_offload import Fraction
from policies.task_graph import TaskGraph

WAITING = "gradients that wait"
SUMMED = WEIGHT_BYTES + FP32  # of a gradient in host memory, where micro-batches are summed there


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuyou:
    """`swap_fraction` of what layers would compute again is kept in host memory; absent: as the cost model has it.
    buffer_count: pieces of layers (a matrix each) whose states may be in host memory at once; of one, read, update and
    write take turns.
    """

    swap_fraction: Fraction | None = None
    parameters: Literal["host", "nvme"] = "nvme"
    buffer_count: Annotated[int, Interval(ge=1, le=64)] = 1

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier."""
        found = self._placement(work, machine).needs(work)
        part = work.parameters / work.ranks
        found[HOST] |= self._buffers(work)
        found[DRIVES][STATES] = part * STATE_BYTES
        return Needs(found)

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step."""
        writer = StepWriter(work, machine)
        needs = self.needs(work, machine)
        writer.hold(DRIVES, needs.by_tier[DRIVES][STATES], STATES)
        alone = work.micro_batches == 1
        if alone:
            left = max(0.0, machine.budgets[HOST] - needs.total(HOST))
            writer.buffer(HOST, WAITING, needs.by_tier[HOST][GRADIENT] + left)
        else:  # sums, complete after the last micro-batch
            writer.hold(HOST, needs.by_tier[HOST][GRADIENT], GRADIENT)
        update = Update(writer, DRIVES, TIERS[self.parameters], self.buffer_count, work.largest / work.ranks)

        def gradients(index: int, micro_batch: int, backward: int) -> None:
            layer = work.layers[index]
            size = layer.parameters * WEIGHT_BYTES
            name = f"{layer.name}, micro-batch {micro_batch}"
            writer.take(backward, GPU, size, GRADIENT, buffer=GRADIENTS)
            last = copy = writer.gradient_out(layer, backward, name)
            writer.give(copy, GPU, size, GRADIENT, buffer=GRADIENTS)
            if alone:
                writer.take(copy, HOST, work.part(layer) * WEIGHT_BYTES, GRADIENT, buffer=WAITING)
            else:
                last = writer.widen(work.part(layer), name, [copy])
            if micro_batch == work.micro_batches - 1:
                updated = update.piece(work.part(layer), layer.name, [last])
                if alone:
                    writer.give(updated, HOST, work.part(layer) * WEIGHT_BYTES, GRADIENT, buffer=WAITING)

        Passes(writer, self._placement(work, machine), gradients, needs).write()
        return writer.finish()

    def _placement(self, work: OffloadWork, machine: Machine) -> Placement:
        fraction = self._chosen(work, machine) if self.swap_fraction is None else self.swap_fraction
        pieces = all_swapped(work, fraction)
        sizes = tuple(size for size, _ in pieces)
        weights = work.parameters if self.parameters == "host" else STAGED * work.largest
        out = [layer.kept_bytes + size for layer, size in zip(work.layers, sizes, strict=True)]
        room = machine.budgets[HOST] - sum(self._buffers(work).values()) - weights * WEIGHT_BYTES / work.ranks
        if sum(out) > room:
            room -= 2 * PARTS * max(out)
        further: list[float] = []
        for size in out:
            room -= size
            further.append(size if room < 0 else 0.0)
        return Placement(
            weights=TIERS[self.parameters],
            kept_on_host=True,
            swapped_bytes=sizes,
            saved_s=tuple(seconds for _, seconds in pieces),
            drives_bytes=tuple(further),
        )

    def _chosen(self, work: OffloadWork, machine: Machine) -> float:
        """By the cost model, within what the GPU's memory leaves."""
        none = kept(work, TIERS[self.parameters], on_host=True)
        left = machine.budgets[GPU] - sum(none.needs(work)[GPU].values())
        return chosen_fraction(work, machine, left / (PARTS + 1))

    def _buffers(self, work: OffloadWork) -> dict[str, float]:
        largest = work.largest / work.ranks
        waiting = PARTS * largest * WEIGHT_BYTES if work.micro_batches == 1 else work.parameters / work.ranks * SUMMED
        return {STATES: self.buffer_count * largest * STATE_BYTES, GRADIENT: waiting}
