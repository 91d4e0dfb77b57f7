"""MemAscend: ZeRO-Infinity's schedule with states and weights on drives, and less host memory (arXiv 2505.23254).

What is pinned is held all the time, in use or not: slots, activations, buffers for states. Gradients lie in one fp32
buffer, which is searched for infinities after the backward; DeepSpeed also writes them to drives, from where a
subgroup's update reads them with its states.
States in 16 bits: the state's weight is the one that passes compute with, and gradients are taken from the buffer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Interval

from policies.offload.host_memory import CHECKED, POOL, HostRules, OverflowCheck, Pinned, Slots
from policies.offload.passes import ACTIVATIONS, GRADIENT, GRADIENTS, HOME, STAGING, Passes, Placement, kept
from policies.offload.update import BUFFER, STATES, Update, pieces_of
from policies.offload.work import DRIVES, FP32, GPU, HOST, STATE_BYTES, WEIGHT_BYTES, Machine, Needs, OffloadWork
from policies.offload.writer import StepWriter
from policies.offload.zero_offload import Parameters
from policies.task_graph import TaskGraph

STATES_16 = 6.0  # bytes of a parameter: weight, momentum and variance
ADAM_16 = 2 * STATES_16 + FP32  # of host memory that its update touches: states twice, the gradient once


@dataclass(frozen=True, slots=True, kw_only=True)
class MemAscend:
    """slots, pinned, overflow_check: how host memory is allocated. engine: drives through a file system, or blocks of
    them asked for directly, at their data sheets' rates. With the first choice of each it is ZeRO-Infinity.
    """

    slots: Slots = "by_class"
    pinned: Pinned = "exact"
    overflow_check: OverflowCheck = "fused"
    engine: Literal["filesystem", "direct"] = "direct"
    states: Literal["fp32", "bf16"] = "fp32"
    sub_group_size: Parameters = 1e9
    buffer_count: Annotated[int, Interval(ge=1, le=64)] = 1  # subgroups whose states may be in host memory at once

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier."""
        found = self._placement(work).needs(work)
        part = work.parameters / work.ranks
        del found[HOST][STAGING]  # a part of the pool
        found[HOST] |= {
            POOL: self._host.pool(work),
            ACTIVATIONS: sum(self._host.block(layer.kept_bytes) for layer in work.layers),
            GRADIENT: self._host.block(part * FP32),
            STATES: self._buffers(part),
            CHECKED: self._host.temporaries(part),
        }
        found[DRIVES][STATES] = part * (STATE_BYTES if self._wide else STATES_16 - WEIGHT_BYTES)
        found[DRIVES][GRADIENT] = part * FP32 if self._wide else 0.0
        return Needs(found)

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step."""
        needs, machine = self.needs(work, machine), self._machine(machine)
        writer = StepWriter(work, machine, reserved=frozenset((STAGING, BUFFER, HOME)))
        for owner in (POOL, ACTIVATIONS, GRADIENT, STATES):
            writer.hold(HOST, needs.by_tier[HOST][owner], owner)
        for owner in (STATES, GRADIENT):
            writer.hold(DRIVES, needs.by_tier[DRIVES][owner], owner)
        arrived: list[int] = []

        def gradients(index: int, micro_batch: int, backward: int) -> None:
            layer, name = work.layers[index], f"{work.layers[index].name}, micro-batch {micro_batch}"
            writer.take(backward, GPU, layer.parameters * WEIGHT_BYTES, GRADIENT, buffer=GRADIENTS)
            copy = writer.gradient_out(layer, backward, name)
            writer.give(copy, GPU, layer.parameters * WEIGHT_BYTES, GRADIENT, buffer=GRADIENTS)
            arrived.append(writer.widen(work.part(layer), name, [copy]))
            if self._wide and micro_batch == work.micro_batches - 1:
                arrived.append(writer.write(work.part(layer) * FP32, f"gradients {name}", [arrived[-1]]))

        Passes(writer, self._placement(work), gradients, needs).write()
        part = work.parameters / work.ranks
        checked = writer.scan(self._host.scanned(part), "gradients", arrived)
        writer.take(checked, HOST, self._host.temporaries(part), CHECKED)
        writer.give(checked, HOST, self._host.temporaries(part), CHECKED)
        group = min(self.sub_group_size, part)
        update = Update(writer, DRIVES, DRIVES, self.buffer_count, group, gradients_on_drives=self._wide)
        if not self._wide:
            update.state_bytes, update.new_weight_bytes = STATES_16, 0.0
        for index, one in enumerate(pieces_of(part, group)):
            update.piece(one, f"subgroup {index}", [checked])
        return writer.finish()

    @property
    def _host(self) -> HostRules:
        return HostRules(self.slots, self.pinned, self.overflow_check)

    @property
    def _wide(self) -> bool:
        return self.states == "fp32"

    def _buffers(self, part: float) -> float:
        """A pinned block for each of a subgroup's tensors: states, and gradients that come from drives."""
        tensors, width = (4, FP32) if self._wide else (3, WEIGHT_BYTES)
        return self.buffer_count * tensors * self._host.block(min(self.sub_group_size, part) * width)

    def _machine(self, machine: Machine) -> Machine:
        if self.engine == "direct":
            read, write = machine.raw_read_bytes_per_s, machine.raw_write_bytes_per_s
            machine = replace(machine, read_bytes_per_s=read, write_bytes_per_s=write)
        if self._wide:
            return machine
        faster = machine.adam_parameters_per_s * machine.adam_bytes / ADAM_16
        return replace(machine, adam_parameters_per_s=faster, adam_bytes=ADAM_16)

    @staticmethod
    def _placement(work: OffloadWork) -> Placement:
        return kept(work, DRIVES, on_host=True)
