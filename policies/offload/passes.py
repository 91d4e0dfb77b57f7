"""Forward and backward of an offloaded step: weights and activations come and go between tiers as passes need them.

Weights that do not live on the GPU are copied there before a layer's forward and again before its backward (ZeRO-3's
schedule, arXiv 2104.07857, section 6); copies run ahead as far as the buffer for them has room, so that how deep they
prefetch, and where passes stall, follows from bytes and rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from policies.offload.work import DRIVES, GPU, HOST, WEIGHT_BYTES, LayerWork, Machine, Needs, OffloadWork
from policies.offload.writer import BACKWARD, FORWARD, GATHER, URGENT, StepWriter

WINDOW, LEAVING, GRADIENTS, STAGING = "weights window", "activations leaving", "gradients leaving", "staged weights"
HOME = "activations that wait"
OUT, BACK = "activations to drives", "activations from drives"
WEIGHTS, ACTIVATIONS, GRADIENT, WORKING = "weights", "activations", "gradients", "working"
STAGED = 2  # layers whose weights may wait in host memory on their way from drives
PARTS = 2  # layers whose gradients, or activations, may be on their way to host memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where weights and activations are between passes, one entry a layer of the work."""

    weights: str  # tier
    kept_on_host: bool  # what comes into each layer
    swapped_bytes: tuple[float, ...]  # of a layer's other activations, those that host memory keeps
    saved_s: tuple[float, ...]  # of computing the layer again, what those spare
    drives_bytes: tuple[float, ...]  # of what leaves, what goes on to drives: all or nothing
    live_bytes: float = inf  # of weights on the GPU, at most
    sharded: bool = False  # weights on the GPU: each rank keeps its part, and ranks make layers whole among them
    reuses: bool = False  # where passes turn round, weights that are on the GPU stay for the next, as many as have room

    @property
    def whole(self) -> bool:
        """Are all weights on every GPU all the time?"""
        return self.weights == GPU and not self.sharded

    def leaving(self, work: OffloadWork, index: int) -> float:
        """Bytes that leave the GPU after a layer's forward, and return for its backward."""
        kept = work.layers[index].kept_bytes if self.kept_on_host else 0.0
        return kept + self.swapped_bytes[index]

    def needs(self, work: OffloadWork) -> dict[str, dict[str, float]]:
        """Bytes of each tier that passes take at least: one layer's weights and activations at a time."""
        layers = range(len(work.layers))
        leaving = [self.leaving(work, index) for index in layers]
        weights = work.parameters * WEIGHT_BYTES
        gpu = {
            WORKING: max(layer.working_bytes for layer in work.layers),
            GRADIENT: PARTS * work.largest * WEIGHT_BYTES,
            WEIGHTS: weights if self.whole else self.least_weights(work),
            "activations on their way": (PARTS + 1) * max(leaving),
        }
        if not self.kept_on_host:
            gpu[ACTIVATIONS] = sum(layer.kept_bytes for layer in work.layers)
        if self.weights == GPU and self.sharded:
            gpu[WEIGHTS] += weights / work.ranks
        host = {ACTIVATIONS: sum(leaving) - sum(self.drives_bytes)}
        if any(self.drives_bytes):
            host["activations on their way"] = 2 * PARTS * max(leaving)
        if self.weights == HOST:
            host[WEIGHTS] = weights / work.ranks
        if self.weights == DRIVES:
            host[STAGING] = STAGED * work.largest * WEIGHT_BYTES / work.ranks
        on_drives = {ACTIVATIONS: sum(self.drives_bytes)}
        if self.weights == DRIVES:
            on_drives[WEIGHTS] = weights / work.ranks
        return {GPU: gpu, HOST: host, DRIVES: on_drives}

    @staticmethod
    def least_weights(work: OffloadWork) -> float:
        """Of all pieces of a layer, and of one that comes."""
        return max((work.pieces + 1) * work.layers[len(work.layers) // 2].parameters, 2 * work.largest) * WEIGHT_BYTES

    def window(self, work: OffloadWork, machine: Machine, needs: Needs) -> float:
        """Of the GPU's memory, for weights and activations that come for passes: what else is left of it, too."""
        returning = max(self.leaving(work, index) for index in range(len(work.layers)))
        return self._weights_window(work, machine, needs) + returning

    def _weights_window(self, work: OffloadWork, machine: Machine, needs: Needs) -> float:
        weights = 0.0 if self.whole else self.least_weights(work)
        more = max(0.0, machine.budgets[GPU] - needs.total(GPU))
        return min(weights + more, max(weights, self.live_bytes))

    def staying(self, work: OffloadWork, machine: Machine, needs: Needs) -> tuple[int, int]:
        """Layers at the end whose weights stay from forward to backward, and at the begin from there to the next
        micro-batch: beside them there is room for one more.
        """
        if not self.reuses:
            return 1, 0
        room = self._weights_window(work, machine, needs) - work.largest * WEIGHT_BYTES
        sizes = [layer.parameters * WEIGHT_BYTES for layer in work.layers]
        last, first = (sum(held <= room for held in accumulate(order)) for order in (reversed(sizes), sizes))
        return max(1, last), first


GradientsOut = Callable[[int, int, int], None]  # layer, micro-batch, and the backward that ends with its gradients


class Passes:
    """Writes all passes of a step; `gradients` is called after each layer's backward."""

    def __init__(self, writer: StepWriter, placement: Placement, gradients: GradientsOut, needs: Needs) -> None:
        self.writer, self.placement, self._gradients = writer, placement, gradients
        self.blocked_by: list[int] = []  # what the next backward waits for besides
        self._gone: dict[int, int] = {}  # layer -> the task after which its activations are where they wait
        work = writer.work
        leaving = max(placement.leaving(work, index) for index in range(len(work.layers)))
        writer.buffer(GPU, LEAVING, PARTS * leaving)
        waiting = sum(placement.leaving(work, index) for index in range(len(work.layers)))
        self._home = HOME if HOME in writer.reserved else None
        writer.buffer(HOST, HOME, waiting)
        writer.buffer(HOST, OUT, PARTS * leaving)
        writer.buffer(HOST, BACK, PARTS * leaving)
        writer.buffer(GPU, GRADIENTS, PARTS * work.largest * WEIGHT_BYTES)
        writer.buffer(GPU, WINDOW, placement.window(work, writer.machine, needs))
        writer.buffer(HOST, STAGING, STAGED * work.largest * WEIGHT_BYTES / work.ranks)
        self._last, self._first = placement.staying(work, writer.machine, needs)
        if placement.whole:
            writer.hold(GPU, work.parameters * WEIGHT_BYTES, WEIGHTS)
        else:
            writer.hold(placement.weights, work.parameters * WEIGHT_BYTES / work.ranks, WEIGHTS)

    def write(self) -> None:
        """Micro-batch after micro-batch."""
        last = len(self.writer.work.layers) - 1
        for micro_batch in range(self.writer.work.micro_batches):
            for index in range(last + 1):
                self._forward(index, micro_batch)
            for index in range(last, -1, -1):
                self._backward(index, micro_batch)

    def _forward(self, index: int, micro_batch: int) -> None:
        writer, layer = self.writer, self.writer.work.layers[index]
        name = f"{layer.name}, micro-batch {micro_batch}"
        fetched = [] if micro_batch and index < self._first else self._fetch(index, name)
        task = writer.compute(FORWARD, layer.forward_s, name, fetched)
        self._work(task, layer)
        if index < len(writer.work.layers) - self._last:  # the last layer's backward comes next: its weights stay
            self._drop(task, layer)
        leaving = self.placement.leaving(writer.work, index)
        if not self.placement.kept_on_host:
            writer.take(task, GPU, layer.kept_bytes, ACTIVATIONS)
        if leaving:
            writer.take(task, GPU, leaving, ACTIVATIONS, buffer=LEAVING)
            copy = writer.d2h(leaving, f"activations {name}", [task])
            writer.give(copy, GPU, leaving, ACTIVATIONS, buffer=LEAVING)
            further = self.placement.drives_bytes[index]
            writer.take(copy, HOST, leaving, ACTIVATIONS, buffer=OUT if further else self._home)
            self._gone[index] = copy
            if further:
                self._gone[index] = written = writer.write(further, f"activations {name}", [copy])
                writer.give(written, HOST, further, ACTIVATIONS, buffer=OUT)
                writer.take(written, DRIVES, further, ACTIVATIONS)

    def _backward(self, index: int, micro_batch: int) -> None:
        writer, layer = self.writer, self.writer.work.layers[index]
        name = f"{layer.name}, micro-batch {micro_batch}"
        fetched = [] if index >= len(writer.work.layers) - self._last else self._fetch(index, name)
        returned = self._return(index, name)
        seconds = max(0.0, layer.recompute_s - self.placement.saved_s[index]) + layer.backward_s
        task = writer.compute(BACKWARD, seconds, name, [*fetched, *returned, *self.blocked_by])
        self._work(task, layer)
        if index >= self._first or micro_batch == writer.work.micro_batches - 1:
            self._drop(task, layer)
        if returned:
            writer.give(task, GPU, self.placement.leaving(writer.work, index), ACTIVATIONS, buffer=WINDOW)
        if not self.placement.kept_on_host:
            writer.give(task, GPU, layer.kept_bytes, ACTIVATIONS)
        self._gradients(index, micro_batch, task)

    def _work(self, task: int, layer: LayerWork) -> None:
        self.writer.take(task, GPU, layer.working_bytes, WORKING)
        self.writer.give(task, GPU, layer.working_bytes, WORKING)

    def _fetch(self, index: int, name: str) -> list[int]:
        """A layer's weights come to the GPU: the task after which they are there; none where they live there."""
        writer, work = self.writer, self.writer.work
        layer = work.layers[index]
        if self.placement.whole:
            return []
        if self.placement.weights == GPU:
            task = writer.exchange(GATHER, layer.parameters * WEIGHT_BYTES, name, [])
            writer.take(task, GPU, layer.parameters * WEIGHT_BYTES, WEIGHTS, buffer=WINDOW)
            return [task]
        size = work.part(layer) * WEIGHT_BYTES
        before: list[int] = []
        if self.placement.weights == DRIVES:
            read = writer.read(size, f"weights {name}", [], URGENT)
            writer.take(read, HOST, size, WEIGHTS, buffer=STAGING)
            before = [read]
        task = writer.h2d(size, f"weights {name}", before)
        writer.take(task, GPU, layer.parameters * WEIGHT_BYTES, WEIGHTS, buffer=WINDOW)
        if before:
            writer.give(task, HOST, size, WEIGHTS, buffer=STAGING)
        if work.ranks > 1:
            task = writer.exchange(GATHER, layer.parameters * WEIGHT_BYTES, name, [task])
        return [task]

    def _drop(self, task: int, layer: LayerWork) -> None:
        if not self.placement.whole:
            self.writer.give(task, GPU, layer.parameters * WEIGHT_BYTES, WEIGHTS, buffer=WINDOW)

    def _return(self, index: int, name: str) -> list[int]:
        """A layer's activations come back, behind its weights."""
        writer = self.writer
        size, further = self.placement.leaving(writer.work, index), self.placement.drives_bytes[index]
        if not size:
            return []
        before = self._gone[index]
        if further:
            before = writer.read(further, f"activations {name}", [before], URGENT)
            writer.take(before, HOST, further, ACTIVATIONS, buffer=BACK)
            writer.give(before, DRIVES, further, ACTIVATIONS)
        task = writer.h2d(size, f"activations {name}", [before])
        writer.take(task, GPU, size, ACTIVATIONS, buffer=WINDOW)
        writer.give(task, HOST, size, ACTIVATIONS, buffer=BACK if further else self._home)
        return [task]


def kept(work: OffloadWork, weights: str, *, on_host: bool, live_bytes: float = inf) -> Placement:
    """Every layer computed again from what comes into it, which stays on the GPU or goes to host memory."""
    none = (0.0,) * len(work.layers)
    return Placement(
        weights=weights, kept_on_host=on_host, swapped_bytes=none, saved_s=none, drives_bytes=none,
        live_bytes=live_bytes,
    )  # fmt: skip
