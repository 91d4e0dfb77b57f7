"""SSDTrain: activations go from the GPU straight to drives, and come back for the backward (arXiv 2408.10013).

Weights, gradients and states stay on the GPU; nothing is computed again. What a piece of a layer keeps is written as
soon as it has run, through GPUDirect Storage, and read again in reverse order ahead of the backward. Only so much is
written as is on drives, and back, when its backward begins: from the first piece that is late on, pieces keep theirs,
for their reuse is near (section 3.3). Passes never wait for memory, as the paper's tensor cache does not make them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Literal

from hardware_models.errors import ImpossibleError
from policies.offload.passes import ACTIVATIONS, GRADIENT, WEIGHTS, WORKING
from policies.offload.update import STATES
from policies.offload.work import DRIVES, GPU, STATE_BYTES, WEIGHT_BYTES, LayerWork, Machine, Needs, OffloadWork
from policies.offload.writer import BACKWARD, FORWARD, GATHER, OPTIMIZER, REDUCE, StepWriter
from policies.offload.zero_offload import Fraction
from policies.task_graph import TaskGraph

RETURNED = "activations from drives"
AHEAD = 1  # layers whose activations are back before their backward begins
SGD_BYTES = 3 * WEIGHT_BYTES  # of the GPU's memory a parameter: weight and gradient read, weight written


@dataclass(frozen=True, slots=True, kw_only=True)
class SsdTrain:
    """fraction: of a step's pieces of layers, those that write, the first of them; absent: as many as are in time.
    optimizer: on the GPU, Adam with states in fp32, or SGD without.
    """

    fraction: Fraction | None = None
    optimizer: Literal["adam", "sgd"] = "adam"

    def needs(self, work: OffloadWork, machine: Machine) -> Needs:
        """Bytes of each tier: activations that stay, and those on their way of a layer before and behind a pass."""
        layers = self._layers(work)
        written = self._written(layers, machine)
        parameters = work.parameters * WEIGHT_BYTES
        widest = max((layer.kept_bytes for layer in layers[:written]), default=0.0)
        away = sum(layer.kept_bytes for layer in layers[:written])
        moving = min(away, (work.pieces + 1 + self._ahead(work, layers[:written], machine)) * widest)
        gpu = {
            WEIGHTS: parameters,
            GRADIENT: parameters,
            STATES: work.parameters / work.ranks * STATE_BYTES if self.optimizer == "adam" else 0.0,
            WORKING: max(layer.working_bytes for layer in layers),
            ACTIVATIONS: sum(layer.kept_bytes for layer in layers[written:]) + moving,
        }
        return Needs({GPU: gpu, DRIVES: {ACTIVATIONS: away}})

    def write(self, work: OffloadWork, machine: Machine) -> TaskGraph:
        """One step."""
        writer, layers = StepWriter(work, machine), self._layers(work)
        needs = self.needs(work, machine).by_tier[GPU]
        for owner in (WEIGHTS, GRADIENT, STATES, WORKING):
            writer.hold(GPU, needs[owner], owner)
        written = self._written(layers, machine)
        widest = max(layer.kept_bytes for layer in layers)
        lead = self._ahead(work, layers[:written], machine)
        writer.buffer(GPU, RETURNED, (lead + 1) * widest)
        for micro_batch in range(work.micro_batches):
            gone: dict[int, int] = {}  # piece -> the write after which it is on drives
            for index, layer in enumerate(layers):
                last = self._forward(writer, layer, f"{layer.name}, micro-batch {micro_batch}", index, written, gone)
            ended = [last]
            for index in range(len(layers) - 1, -1, -1):
                name = f"{layers[index].name}, micro-batch {micro_batch}"
                ahead = ended[max(0, len(ended) - 1 - lead)]
                before = [gone[max(gone)], ahead] if index in gone else []  # drives write all before they read
                ended.append(self._backward(writer, layers[index], name, before))
                if work.ranks > 1 and micro_batch == work.micro_batches - 1:
                    size = layers[index].parameters * WEIGHT_BYTES
                    writer.exchange(GATHER, size, name, [writer.exchange(REDUCE, size, name, [ended[-1]])])
        part = work.parameters / work.ranks
        seconds = machine.gpu_adam_s(part) if self.optimizer == "adam" else machine.gpu_touch_s(part * SGD_BYTES)
        writer.compute(OPTIMIZER, seconds, "on the GPU")
        return writer.finish()

    @staticmethod
    def _forward(
        writer: StepWriter, layer: LayerWork, name: str, index: int, written: int, gone: dict[int, int]
    ) -> int:
        task = writer.compute(FORWARD, layer.forward_s, name)
        writer.take(task, GPU, layer.kept_bytes, ACTIVATIONS)
        if index < written and layer.kept_bytes:
            gone[index] = copy = writer.store(layer.kept_bytes, f"activations {name}", [task])
            writer.give(copy, GPU, layer.kept_bytes, ACTIVATIONS)
            writer.take(copy, DRIVES, layer.kept_bytes, ACTIVATIONS)
        return task

    @staticmethod
    def _backward(writer: StepWriter, layer: LayerWork, name: str, before: list[int]) -> int:
        """before: tasks after which its activations may come back; none where they stayed."""
        back = [writer.load(layer.kept_bytes, f"activations {name}", before)] if before else []
        task = writer.compute(BACKWARD, layer.backward_s + layer.recompute_s, name, back)
        if back:
            writer.take(back[0], GPU, layer.kept_bytes, ACTIVATIONS, buffer=RETURNED)
            writer.give(back[0], DRIVES, layer.kept_bytes, ACTIVATIONS)
            writer.give(task, GPU, layer.kept_bytes, ACTIVATIONS, buffer=RETURNED)
        else:
            writer.give(task, GPU, layer.kept_bytes, ACTIVATIONS)
        return task

    def _written(self, layers: list[LayerWork], machine: Machine) -> int:
        """Pieces that write, from the first on: with the last of them written, all are read again in time.

        Raises ImpossibleError for a server without drives, where any are to write.
        """
        if not machine.direct_write_bytes_per_s and self.fraction != 0.0:
            raise ImpossibleError(
                "offload.policy.name = ssdtrain: activations go to drives, and the server has none; give it some with"
                " offload.drives, or take fraction = 0"
            )
        if self.fraction is not None:
            return round(self.fraction * len(layers))
        begins = sum(layer.forward_s + layer.recompute_s + layer.backward_s for layer in layers)
        now = on_drives = read_s = 0.0
        latest = inf  # that reads, which go from the last to the first, may begin, and `read_s` later
        for count, layer in enumerate(layers):
            now += layer.forward_s
            begins -= layer.recompute_s + layer.backward_s  # its own backward does
            on_drives = max(now, on_drives) + layer.kept_bytes / machine.direct_write_bytes_per_s
            latest = min(latest, begins + read_s)
            read_s += layer.kept_bytes / machine.direct_read_bytes_per_s
            if on_drives + read_s > latest:
                return count
        return len(layers)

    @staticmethod
    def _ahead(work: OffloadWork, layers: list[LayerWork], machine: Machine) -> int:
        """Backwards before a piece's own at which it is read: a layer's, or more where drives are slower than they."""
        if not layers:
            return 0
        read_s = sum(layer.kept_bytes for layer in layers) / machine.direct_read_bytes_per_s / len(layers)
        backward_s = sum(layer.recompute_s + layer.backward_s for layer in layers) / len(layers)
        slower_s = (len(layers) - 1) * max(0.0, read_s - backward_s)
        return max(AHEAD * work.pieces, ceil((read_s + slower_s) / backward_s))

    @staticmethod
    def _layers(work: OffloadWork) -> list[LayerWork]:
        """Pieces, each of which keeps as much as the others of its layer."""
        inner, layers = work.layers[1:-1], [work.layers[0]]
        for first in range(0, len(inner), work.pieces):
            pieces = inner[first : first + work.pieces]
            each = sum(piece.kept_bytes for piece in pieces) / len(pieces)
            layers += [replace(piece, kept_bytes=each) for piece in pieces]
        return [*layers, work.layers[-1]]
