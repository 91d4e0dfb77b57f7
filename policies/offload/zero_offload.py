"""ZeRO-Offload: weights and passes on the GPU, states and Adam on the CPU (Ren et al., arXiv 2101.06840).

Gradients leave as soon as the backward has them; when all have come, and their norm is known, the CPU updates subgroup
after subgroup, and each one's new weights return while it updates the next (section 4.2). Delayed update: Adam works on
the last step's gradients while the GPU computes this one's (section 5.2). Twin-Flow: a part of the states stays on the
GPU, which updates it at the same time (DeepSpeed's ZeRO-Offload++).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from policies.offload.passes import GRADIENT, GRADIENTS, Passes, Placement, kept
from policies.offload.update import STATES, Update, pieces_of
from policies.offload.work import FP32, GPU, HOST, STATE_BYTES, WEIGHT_BYTES, Machine, Needs, OffloadWork
from policies.offload.writer import OPTIMIZER, StepWriter
from policies.task_graph import TaskGraph

Fraction = Annotated[float, Interval(ge=0, le=1)]
Parameters = Annotated[float, Interval(ge=1e6, le=1e12)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroOffload:
    """States on the CPU; `ratio` of them, the rest on the GPU."""

    delayed_update: bool = False
    ratio: Fraction = 1.0
    subgroup_parameters: Parameters = 1e8
    activations: Literal["gpu", "host"] = "gpu"

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier."""
        found = self._placement(work).needs(work)
        part = work.parameters / work.ranks
        found[GPU][STATES] = (1.0 - self.ratio) * part * (STATE_BYTES + WEIGHT_BYTES)
        found[HOST][STATES] = self.ratio * part * STATE_BYTES
        found[HOST][GRADIENT] = self.ratio * part * FP32 * (2.0 if self.delayed_update else 1.0)
        return Needs(found)

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step, as it is when many have gone before."""
        writer = StepWriter(work, machine)
        needs = self.needs(work, machine)
        for tier, owner in ((GPU, STATES), (HOST, STATES), (HOST, GRADIENT)):
            writer.hold(tier, needs.by_tier[tier][owner], owner)
        arrived: list[int] = []
        passed: list[int] = []  # backwards

        def gradients(index: int, micro_batch: int, backward: int) -> None:
            passed.append(backward)
            layer = work.layers[index]
            size = layer.parameters * WEIGHT_BYTES
            name = f"{layer.name}, micro-batch {micro_batch}"
            writer.take(backward, GPU, size, GRADIENT, buffer=GRADIENTS)
            copy = writer.gradient_out(layer, backward, name, self.ratio)
            writer.give(copy, GPU, size, GRADIENT, buffer=GRADIENTS)
            arrived.append(writer.widen(work.part(layer) * self.ratio, name, [copy]))

        passes = Passes(writer, self._placement(work), gradients, needs)
        update = Update(writer, HOST, GPU, 1, 0.0)
        part = work.parameters / work.ranks
        if self.delayed_update:
            updated = [writer.adam(one, f"subgroup {i}") for i, one in enumerate(self._pieces(part))]
        passes.write()
        if self.delayed_update:  # the weights are in use until the last backward
            for index, (one, task) in enumerate(zip(self._pieces(part), updated, strict=True)):
                writer.h2d(one * WEIGHT_BYTES, f"new weights subgroup {index}", [task, passed[-1]])
        else:
            for index, one in enumerate(self._pieces(part)):
                update.piece(one, f"subgroup {index}", arrived)
        if self.ratio < 1.0:
            writer.compute(OPTIMIZER, machine.gpu_adam_s((1.0 - self.ratio) * part), "states on the GPU", arrived)
        return writer.finish()

    def _placement(self, work: OffloadWork) -> Placement:
        return kept(work, GPU, on_host=self.activations == "host")

    def _pieces(self, part: float) -> list[float]:
        return pieces_of(self.ratio * part, self.subgroup_parameters)
