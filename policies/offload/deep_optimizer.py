"""ZeRO-3 with states in host memory, and Deep Optimizer States: their update shared between CPU and idle GPU.

DeepSpeed's ZeRO-3 copies gradients in 16 bits to host memory that is not pinned, where one thread turns them to fp32
while the backward waits; its update takes subgroup after subgroup through the CPU. Deep Optimizer States (Maurya et
al., arXiv 2410.21316) turns gradients to fp32 on the GPU, from where they leave beside the backward (section 4.3), and
sends every k-th subgroup's states to the GPU, which updates it while the CPU updates the others (section 4.1).
Twin-Flow: a part of the states never leaves the GPU (DeepSpeed's ZeRO-Offload++).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Annotated, Literal

from annotated_types import Interval

from policies.offload.passes import GRADIENT, GRADIENTS, Passes, Placement, kept
from policies.offload.update import STATES, pieces_of
from policies.offload.work import (
    FP32,
    GPU,
    HOST,
    STATE_BYTES,
    WEIGHT_BYTES,
    LayerWork,
    Machine,
    Needs,
    OffloadWork,
)
from policies.offload.writer import CAST_BYTES, OPTIMIZER, REDUCE, StepWriter
from policies.offload.zero_offload import Fraction, Parameters
from policies.task_graph import TaskGraph

WIDE, VISITING = "fp32 gradients leaving", "visiting states"
SUBGROUPS = 2  # whose states may be on the GPU at once
IN_BYTES = STATE_BYTES + FP32  # of a parameter that the GPU updates: states and gradient come
FEWEST, MOST = 2, 64  # subgroups of which one goes to the GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepOptimizerStates:
    """gradients: where they are turned to fp32; cpu: the backward waits for it.

    gpu_stride: of so many subgroups the GPU updates one; 0: of none; absent: as rates have it. ratio: of the states,
    those in host memory. pin_memory: of gradients and new weights, DeepSpeed's key; states that visit the GPU always
    are.
    """

    gradients: Literal["cpu", "gpu"] = "gpu"
    gpu_stride: Annotated[int, Interval(ge=0, le=MOST)] | None = None
    ratio: Fraction = 1.0
    subgroup_parameters: Parameters = 1e8
    pin_memory: bool = False
    activations: Literal["gpu", "host"] = "gpu"

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier."""
        found = self._placement(work).needs(work)
        part = work.parameters / work.ranks
        found[GPU][STATES] = (1.0 - self.ratio) * part * (STATE_BYTES + FP32)
        found[GPU][VISITING] = self._visiting(work, machine)
        found[GPU][WIDE] = self._wide(work)
        found[HOST][STATES] = self.ratio * part * STATE_BYTES
        found[HOST][GRADIENT] = self.ratio * part * (FP32 + (WEIGHT_BYTES if work.micro_batches > 1 else 0.0))
        return Needs(found)

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step."""
        writer = StepWriter(work, machine)
        needs = self.needs(work, machine)
        for tier, owner in ((GPU, STATES), (HOST, STATES), (HOST, GRADIENT)):
            writer.hold(tier, needs.by_tier[tier][owner], owner)
        writer.buffer(GPU, WIDE, self._wide(work))
        writer.buffer(GPU, VISITING, self._visiting(work, machine))
        arrived: list[int] = []

        def gradients(index: int, micro_batch: int, backward: int) -> None:
            layer, last = work.layers[index], micro_batch == work.micro_batches - 1
            name = f"{layer.name}, micro-batch {micro_batch}"
            ready = self._summed(writer, layer, micro_batch, backward, name)
            end = self._flush(writer, layer, name, ready) if last else self._sum_out(writer, layer, name, ready)
            if last and self.gradients == "cpu":
                passes.blocked_by = [end]
            if last:
                arrived.append(end)

        passes = Passes(writer, self._placement(work), gradients, needs)
        passes.write()
        self._update(writer, arrived)
        return writer.finish()

    def stride(self, machine: Machine) -> int:
        """Of so many subgroups the GPU updates one; 0: none. The fewest for which the CPU takes as long for the others
        as copies take for that one (arXiv 2410.21316, section 4.2).
        """
        if self.gpu_stride is not None:
            return self.gpu_stride
        each_s = (1.0 + CAST_BYTES / machine.adam_bytes) / machine.adam_parameters_per_s
        copy_s = STATE_BYTES / min(machine.links[link] for link in machine.h2d)
        return min(MOST, max(FEWEST, 1 + ceil(copy_s / each_s)))

    def _summed(self, writer: StepWriter, layer: LayerWork, micro_batch: int, backward: int, name: str) -> int:
        """The rank's part of a layer's gradients with those of earlier micro-batches: the last task of that."""
        work, size = writer.work, layer.parameters * WEIGHT_BYTES
        ready = writer.exchange(REDUCE, size, name, [backward]) if work.ranks > 1 else backward
        writer.take(backward, GPU, size, GRADIENT, buffer=GRADIENTS)
        if micro_batch:
            ready = writer.h2d(self.ratio * work.part(layer) * WEIGHT_BYTES, f"gradients {name}", [ready])
        return ready

    def _sum_out(self, writer: StepWriter, layer: LayerWork, name: str, ready: int) -> int:
        """The sum so far waits in host memory, in 16 bits."""
        size = self.ratio * writer.work.part(layer) * WEIGHT_BYTES
        copy = writer.d2h(size, f"gradients {name}", [ready])
        writer.give(copy, GPU, layer.parameters * WEIGHT_BYTES, GRADIENT, buffer=GRADIENTS)
        return copy

    def _flush(self, writer: StepWriter, layer: LayerWork, name: str, ready: int) -> int:
        """The whole sum goes to host memory in fp32: the last task of that."""
        part = self.ratio * writer.work.part(layer)
        narrow = layer.parameters * WEIGHT_BYTES
        if self.gradients == "cpu":
            copy = writer.d2h(part * WEIGHT_BYTES, f"gradients {name}", [ready], pinned=self.pin_memory)
            writer.give(copy, GPU, narrow, GRADIENT, buffer=GRADIENTS)
            return writer.widen_alone(part, name, [copy])
        copy = writer.d2h(part * FP32, f"gradients {name}", [ready], pinned=self.pin_memory)
        writer.take(copy, GPU, part * FP32, GRADIENT, buffer=WIDE)
        writer.give(copy, GPU, part * FP32, GRADIENT, buffer=WIDE)
        writer.give(copy, GPU, narrow, GRADIENT, buffer=GRADIENTS)
        return copy

    def _update(self, writer: StepWriter, arrived: list[int]) -> None:
        """Subgroups of the rank's part: on the CPU, or on a visit to the GPU; what lives there comes last."""
        part = writer.work.parameters / writer.work.ranks
        pieces = pieces_of(self.ratio * part, self.subgroup_parameters)
        stride = self.stride(writer.machine)
        after = list(arrived)
        for first in range(0, len(pieces), stride or 1):
            group = list(enumerate(pieces[first : first + stride] if stride else [pieces[first]], first))
            visit = group.pop() if stride and len(group) == stride else None
            if visit is not None:
                self._on_gpu(writer, visit[1], f"subgroup {visit[0]}", arrived)
            for index, one in group:
                after = self._on_cpu(writer, one, f"subgroup {index}", after, waits=not stride)
        if self.ratio < 1.0:
            own = (1.0 - self.ratio) * part
            writer.compute(OPTIMIZER, writer.machine.gpu_adam_s(own), "states on the GPU", arrived)

    def _on_cpu(self, writer: StepWriter, one: float, name: str, after: list[int], *, waits: bool) -> list[int]:
        """Adam, new weights in 16 bits, which go to the GPU; waits: the next subgroup for that."""
        narrowed = writer.narrow(one, name, [writer.adam(one, name, after)])
        copy = writer.h2d(one * WEIGHT_BYTES, f"new weights {name}", [narrowed], pinned=self.pin_memory or not waits)
        return [copy] if waits else [narrowed]

    @staticmethod
    def _on_gpu(writer: StepWriter, one: float, name: str, after: list[int]) -> None:
        """States and gradients come, the GPU updates them, states go back."""
        come = writer.h2d(one * IN_BYTES, f"states {name}", after)
        writer.take(come, GPU, one * IN_BYTES, STATES, buffer=VISITING)
        updated = writer.compute(OPTIMIZER, writer.machine.gpu_adam_s(one), name, [come])
        gone = writer.d2h(one * STATE_BYTES, f"states {name}", [updated])
        writer.give(gone, GPU, one * IN_BYTES, STATES, buffer=VISITING)

    def _visiting(self, work: OffloadWork, machine: Machine) -> float:
        if not self.stride(machine):
            return 0.0
        return SUBGROUPS * min(self.subgroup_parameters, work.parameters / work.ranks) * IN_BYTES

    def _wide(self, work: OffloadWork) -> float:
        return SUBGROUPS * work.largest / work.ranks * FP32 if self.gradients == "gpu" else 0.0

    def _placement(self, work: OffloadWork) -> Placement:
        return replace(kept(work, GPU, on_host=self.activations == "host"), sharded=work.ranks > 1)
